"""What `batch` is told beside the settings of its runs."""

from typing import Annotated, Literal

from pydantic import Field, create_model

from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import Options
from pnpvideo.options.mask import MaskSettings
from pnpvideo.options.method import MethodSettings
from pnpvideo.options.paths import PathText, PlaceText
from pnpvideo.options.settings import (
    MachineSettings,
    ModelSettings,
    ResultSettings,
    SourceSettings,
    TextSettings,
)

Combine = Literal["product", "pairs"]


class BatchOptions(Options):
    """Which runs there are, and who makes them."""

    jobs: PathText | None = Field(
        default=None,
        description="jobs.jsonl or jobs.csv: in each line the settings of a run; or a folder of "
        "clips and pictures",
        json_schema_extra={"positional": True},
    )
    combine: Combine | None = Field(
        default=None,
        description="how several clips and several --prompt belong together: product, each clip "
        "with each prompt, or pairs, the first with the first and so on",
    )
    output: PlaceText | None = Field(
        default=None,
        description="folder for results and batch.json, or an address such as s3://bucket/results; "
        "the same command makes what is missing in it",
        json_schema_extra={"short": "-o", "metavar": "DIR"},
    )
    work_dir: PathText | None = Field(
        default=None,
        description="for results at an address: a folder for what is under way",
        json_schema_extra={"metavar": "DIR"},
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="how many work at once, each with a model (one for each GPU; without any 1, or "
        "one for each machine of a cluster)",
    )
    ray: str | None = Field(
        default=None,
        description="work on a Ray cluster: its address, auto for that of this machine, or local "
        "to start one here; all its machines are to have the folder of the results",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    dry_run: bool = Field(
        default=False,
        description="make nothing; tell what would be made, and how long it would take by some "
        "steps of the first job",
    )


def _without(group: type[Options], *names: str) -> type[Options]:
    """A group of options but for some."""
    kept = {name: field for name, field in group.model_fields.items() if name not in names}
    fields = {name: (field.annotation, field) for name, field in kept.items()}
    return create_model(group.__name__, __base__=Options, **fields)  # type: ignore[call-overload,no-any-return]


COMMON: dict[str, type[Options]] = {
    "source": _without(SourceSettings, "source", "guidance_prompt"),
    "text": TextSettings,
    "picture beside the text": AdapterSettings,
    "local edit": MaskSettings,
    "result": _without(ResultSettings, "output"),
    "method (defaults: the model's own, or the paper's)": MethodSettings,
    "model": ModelSettings,
    "machine": _without(MachineSettings, "job"),
}
"""The settings that can be given for all jobs, in groups as those of `translate`."""
GROUPS: dict[str, type[Options]] = {"batch": BatchOptions, **COMMON}
"""The groups in the order and with the titles that a help text has."""
