"""The settings of one run of `evaluate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options, by_title, shown
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, Count
from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import PathText
from pnpvideo.options.settings import check_followed
from pnpvideo.options.values import Seed, Size, Texts

BenchmarkName = Literal[
    "pie-bench",
    "wild-ti2i",
    "imagenet-r-ti2i",
    "emu-edit",
    "magicbrush",
    "imagenet-real-edit",
    "five-bench",
    "manifest",
]
OURS = "ours"
"""The name of our method beside others."""


class BenchmarkSettings(Options, title="benchmark"):
    """The benchmark to evaluate, and the folder of the results."""

    benchmark: Annotated[BenchmarkName, Lifetime.INVERSION] = Field(
        description="pie-bench, wild-ti2i, imagenet-r-ti2i, emu-edit, magicbrush, "
        "imagenet-real-edit, five-bench, or manifest: any pictures and clips, listed in a table",
        json_schema_extra={"positional": True, "missing": "a benchmark, such as pie-bench"},
    )
    # Where it is changes no result: `benchmark` says what it is.
    data: Annotated[PathText, Lifetime.NOTHING] = Field(
        description="folder or file of the benchmark, as published",
        json_schema_extra={"positional": True, "missing": "the folder of the benchmark's data"},
    )
    output: Annotated[PathText, Lifetime.NOTHING] = Field(
        description="folder for results, tables and the page; the same command resumes in it, and "
        "several commands at once share the work",
        json_schema_extra={
            "short": "-o",
            "metavar": "DIR",
            "missing": "a folder for results, with -o",
        },
    )
    # Which items there are changes the result of none of them.
    limit: Annotated[Count | None, Lifetime.NOTHING] = Field(
        default=None, description="use only the first N items (all)"
    )
    types: Annotated[Texts, Lifetime.NOTHING] = Field(
        default=(),
        description="use only this edit type, by its name or number; can be repeated (all)",
    )
    strict: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="reject a benchmark with broken entries; otherwise they are left out and "
        "counted",
    )
    theirs: Annotated[Texts, Lifetime.NOTHING] = Field(
        default=(),
        description="NAME=FOLDER: another method's results, in the benchmark's layout, to measure "
        "too; can be repeated",
    )
    ours: Annotated[bool, Lifetime.NOTHING] = Field(
        default=True, description="make results with the model; if off, only measure other methods"
    )


class MeasureSettings(Options, title="measures"):
    """Options for measuring results."""

    network: Annotated[Texts, Lifetime.MEASURING] = Field(
        default=(),
        description="ROLE=FOLDER, ROLE=HUB_ID or ROLE=none: load a measuring network from "
        "elsewhere, or leave it out (roles: docs/evaluation.md); can be repeated",
    )
    structure: Annotated[Literal["right", "official"], Lifetime.MEASURING] = Field(
        default="right",
        description="official: measure structure distance as published tables do, with a mistake "
        "of PIE-Bench's code (pixels from 0 to 255)",
    )
    captions: Annotated[PathText | None, Lifetime.MEASURING] = Field(
        default=None,
        description="magicbrush: captions for CLIP-T to compare with (local_descriptions.json)",
        json_schema_extra={"metavar": "FILE"},
    )
    statistics: Annotated[PathText | None, Lifetime.MEASURING] = Field(
        default=None,
        description="imagenet-real-edit: safetensors file with the mean features of real pictures, "
        "for SFID and CSFID",
        json_schema_extra={"metavar": "FILE"},
    )
    frame_stride: Annotated[Count, Lifetime.MEASURING] = Field(
        default=1, description="measure every n-th frame of clips"
    )


class MakeSettings(Options, title="results"):
    """Options for making results, in addition to those of the method."""

    inversion_text: Annotated[Literal["empty", "source"], Lifetime.INVERSION] = Field(
        default="empty",
        description="prompt for inverting sources: empty, as in the paper, or the source's own",
    )
    frame_count: Annotated[Count | None, Lifetime.INVERSION] = Field(
        default=None,
        alias="frames",
        description="maximum number of frames to use from a clip (all)",
    )
    size: Annotated[Size | None, Lifetime.INVERSION] = Field(
        default=None,
        description="working size in pixels (the source's aspect ratio, with about as many pixels "
        "as the model was trained for)",
    )
    seed: Annotated[Seed, Lifetime.SAMPLING] = Field(
        default=0, description="seed for all random numbers"
    )
    batch_size: Annotated[int, Lifetime.NOTHING] = Field(
        default=DEFAULT_BATCH_SIZE, ge=1, le=2**31, description="frames to sample at once"
    )


# pydantic lists the options of the last class first.
class EvaluationSettings(
    ModelSettings, MethodSettings, MakeSettings, MeasureSettings, BenchmarkSettings
):
    """All options of `evaluate`."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_results_as_method(cls, values: dict[str, object]) -> dict[str, object]:
        method = values.get("method")
        if isinstance(method, str) and "=" in method:
            raise InputError(
                f"method is {shown(method)}; give the results of another method with --theirs "
                "NAME=FOLDER"
            )
        return values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check_followed(self.controlnet, self.control)
        if not self.ours and not self.theirs:
            raise InputError(
                "there is nothing to measure; give --theirs NAME=FOLDER, or leave out --no-ours"
            )
        return self


GROUPS = by_title(BenchmarkSettings, MeasureSettings, MakeSettings, MethodSettings, ModelSettings)
"""The groups of `EvaluationSettings` by title, in the order of a help text."""
