"""Options of `batch`, and the settings that all its runs can share."""

import re
import string
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, create_model

from pnpvideo.errors import InputError
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import Lifetime, Options, by_title
from pnpvideo.options.mask import MaskSettings
from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import PathText, PlaceText
from pnpvideo.options.printed import printable
from pnpvideo.options.settings import (
    MachineSettings,
    ResultSettings,
    SourceSettings,
    TextSettings,
)

Combine = Literal["product", "pairs"]

NAME_FIELDS = ("source", "prompt", "n", "seed")
"""The fields that a template of names can hold in braces."""


def _check_template(text: str) -> str:
    """Return a template of names. InputError if it holds anything but its fields and text."""
    fields = ", ".join(f"{{{field}}}" for field in NAME_FIELDS)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise InputError(f"name is {text!r}: {error}; its fields are {fields}") from None
    for _, field, form, conversion in parts:
        is_number = field in ("n", "seed") and re.fullmatch(r"(0?[1-9]\d?d?)?", form or "")
        if field is None or (field in NAME_FIELDS and not conversion and (is_number or not form)):
            continue
        raise InputError(
            f"name is {text!r}, and {{{field}{':' if form else ''}{form}}} is not one of its "
            f"fields; give {fields}"
        )
    if not text.strip():
        raise InputError(f"name is empty; give a template with some of {fields}")
    if printable(text) != text:
        raise InputError(f"name is {text!r}, with a control character in it; leave that out")
    return text


NameTemplate = Annotated[str, AfterValidator(_check_template)]


class BatchOptions(Options, title="batch"):
    """The runs of a batch and its workers. Adding or removing a job changes no result."""

    jobs: Annotated[PathText, Lifetime.NOTHING] = Field(
        description="jobs.jsonl or jobs.csv with the settings of one run in each line, jobs.yaml, "
        "or a folder of clips and pictures",
        json_schema_extra={
            "positional": True,
            "missing": "a list of jobs (.jsonl, .csv or .yaml) or a folder of clips",
        },
    )
    combine: Annotated[Combine | None, Lifetime.NOTHING] = Field(
        default=None,
        description="how to combine several clips with several --prompt: product is each clip with "
        "each prompt, pairs is the first clip with the first prompt and so on",
    )
    output: Annotated[PlaceText, Lifetime.NOTHING] = Field(
        description="folder for results and batch.json, or an address such as s3://bucket/results; "
        "running the same command again makes the results that are missing",
        json_schema_extra={
            "short": "-o",
            "metavar": "DIR",
            "missing": "a folder for the results, with -o",
        },
    )
    name: Annotated[NameTemplate | None, Lifetime.NOTHING] = Field(
        default=None,
        description="template of the results' names: {source} is the source's name, {prompt} the "
        "words of the first prompt, {n} the number of the job in the list ({n:03} has three "
        "digits), {seed} its seed. By default it is {source} if no other job has the same, and "
        "{source}-{prompt} for the others",
        json_schema_extra={"metavar": "TEMPLATE"},
    )
    skip_broken: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="leave out jobs whose files are missing or damaged, and make the others; the "
        "exit code is 1 then, and batch.json lists them as skipped",
    )
    work_dir: Annotated[PathText | None, Lifetime.NOTHING] = Field(
        default=None,
        description="for results at an address: a folder for unfinished work",
        json_schema_extra={"metavar": "DIR"},
    )
    workers: Annotated[int | None, Lifetime.NOTHING] = Field(
        default=None,
        ge=1,
        le=1000,
        description="number of workers, each with its own copy of the model (one for each GPU; "
        "1 without a GPU; one for each machine of a cluster)",
    )
    ray: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="run on a Ray cluster: its address, auto for the one on this machine, or local "
        "to start one here; all its machines must be able to open the results folder",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    dry_run: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="make nothing; list what would be made and which files are broken, and "
        "estimate how long it would take from a few steps of the first job",
    )


def _without(group: type[Options], *names: str) -> type[Options]:
    """Return a group of options with some left out."""
    kept = {name: field for name, field in group.model_fields.items() if name not in names}
    fields = {name: (field.annotation, field) for name, field in kept.items()}
    title = {"title": group.model_config["title"]}
    return create_model(group.__name__, __base__=Options, __cls_kwargs__=title, **fields)  # type: ignore[call-overload,no-any-return]


COMMON = by_title(
    _without(SourceSettings, "source", "guidance_prompt"),
    TextSettings,
    AdapterSettings,
    MaskSettings,
    _without(ResultSettings, "output"),
    MethodSettings,
    ModelSettings,
    _without(MachineSettings, "job"),
)
"""The settings that can be given for all jobs, in groups as those of `translate`."""
GROUPS = by_title(BatchOptions) | COMMON
"""All groups by title, in the order of a help text."""
