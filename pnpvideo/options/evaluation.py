"""The settings of one run of `evaluate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, Count, MethodSettings
from pnpvideo.options.paths import PathText
from pnpvideo.options.settings import ModelSettings, check_followed
from pnpvideo.options.values import Size, Texts

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
"""The name of this method among others."""


class BenchmarkSettings(Options):
    """What is evaluated, and where to."""

    benchmark: BenchmarkName | None = Field(
        default=None,
        description="pie-bench, wild-ti2i, imagenet-r-ti2i, emu-edit, magicbrush, "
        "imagenet-real-edit, five-bench, or manifest: any pictures and clips by a table",
        json_schema_extra={"positional": True},
    )
    data: PathText | None = Field(
        default=None,
        description="the folder or file of the benchmark as it is published",
        json_schema_extra={"positional": True},
    )
    output: PathText | None = Field(
        default=None,
        description="folder for results, tables and the page; the same command goes on in it, and "
        "several at once share the work",
        json_schema_extra={"short": "-o", "metavar": "DIR"},
    )
    limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="only so many items, the first ones (all)"
    )
    types: Texts = Field(
        default=(),
        description="only this edit type, by its name or number; several may be given (all)",
    )
    strict: bool = Field(
        default=False,
        description="refuse a benchmark with broken entries, which are otherwise left out and "
        "counted",
    )
    methods: Texts = Field(
        default=(),
        alias="method",
        description="NAME=FOLDER with another method's results in the benchmark's layout, measured "
        "beside ours; several may be given",
    )
    ours: bool = Field(
        default=True, description="make results with the model; without, only others are measured"
    )


class MeasureSettings(Options):
    """How results are measured."""

    networks: Texts = Field(
        default=(),
        alias="network",
        description="ROLE=FOLDER, HUB_ID or none: a network that measures, from a place of its own "
        "(roles in docs/evaluation.md); several may be given",
    )
    structure: Literal["right", "official"] = Field(
        default="right",
        description="official: structure distance with the slip of PIE-Bench's code, pixels from 0 "
        "to 255, as in published tables",
    )
    captions: PathText | None = Field(
        default=None,
        description="magicbrush: captions that CLIP-T compares with (local_descriptions.json)",
        json_schema_extra={"metavar": "FILE"},
    )
    statistics: PathText | None = Field(
        default=None,
        description="imagenet-real-edit: safetensors file with the means of true pictures' "
        "features, for SFID and CSFID",
        json_schema_extra={"metavar": "FILE"},
    )
    frame_stride: Count = Field(default=1, description="measure every n-th frame of clips")


class MakeSettings(Options):
    """How results are made, beside the method's own options."""

    inversion_text: Literal["empty", "source"] = Field(
        default="empty",
        description="what sources are inverted under: nothing, as in the paper, or their prompts",
    )
    frame_count: Annotated[int, Field(ge=1)] | None = Field(
        default=None, alias="frames", description="of clips, how many frames at most (all)"
    )
    size: Size | None = Field(
        default=None, description="working size in pixels (the model's own area)"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="of all that is drawn")
    batch_size: int = Field(
        default=DEFAULT_BATCH_SIZE, ge=1, le=2**31, description="frames in one pass of sampling"
    )


# pydantic lists the options of the last class first.
class EvaluationSettings(
    ModelSettings, MethodSettings, MakeSettings, MeasureSettings, BenchmarkSettings
):
    """What `evaluate` does."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, what in (
            ("benchmark", "a benchmark, such as pie-bench"),
            ("data", "the folder of the benchmark's data"),
            ("output", "a folder for results, with -o"),
        ):
            if getattr(self, name) is None:
                raise InputError(f"give {what}")
        check_followed(self.controlnet, self.control)
        if not self.ours and not self.methods:
            raise InputError(
                "there is nothing to measure; give --method NAME=FOLDER, or leave out --no-ours"
            )
        return self


GROUPS: dict[str, type[Options]] = {
    "benchmark": BenchmarkSettings,
    "measures": MeasureSettings,
    "results": MakeSettings,
    "method (defaults: the model's own, or the paper's)": MethodSettings,
    "model": ModelSettings,
}
"""The groups in the order and with the titles that a help text has."""
