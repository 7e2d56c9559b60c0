"""The settings of one run of `visualize`."""

from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options, by_title
from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import PathText
from pnpvideo.options.settings import MachineSettings, SourceSettings, TextSettings
from pnpvideo.options.subject import SubjectSettings
from pnpvideo.options.values import PathTexts, Texts

Show = Literal["features", "attention", "prediction", "correspondence", "words"]
DEFAULT_SIDE = 192


def _shares(given: object) -> tuple[float, ...]:
    """Return (0.2, 0.5) for "0.2,0.5" or [0.2, 0.5]."""
    texts = given if isinstance(given, list | tuple) else str(given).split(",")
    shares = tuple(float(text) for text in texts)
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError
    return shares


Shares = Annotated[
    tuple[float, ...],
    PlainValidator(_shares),
    PlainSerializer(lambda shares: ",".join(f"{x:g}" for x in shares), when_used="json"),
    WithJsonSchema(
        {"type": "string", "form": "numbers from 0 to 1, such as 0.2,0.5,0.8", "metavar": "X,..."}
    ),
]


class ShowSettings(Options, title="pictures"):
    """The things to show, and the place of the pictures."""

    show: Annotated[Show, Lifetime.FINISHING] = Field(
        default="features",
        description="features: the decoder's features of the source, as colours (PCA over all "
        "sources and frames); attention: its self-attention, likewise; prediction: the picture "
        "that the model predicts at each step; correspondence: which places match between frames; "
        "words: where the prompt's words attend",
    )
    beside: Annotated[PathTexts, Lifetime.INVERSION] = Field(
        default=(),
        description="another source to show in the same colours and match to the first; can be "
        "repeated",
        json_schema_extra={"metavar": "SOURCE"},
    )
    layer: Annotated[Texts, Lifetime.FINISHING] = Field(
        default=(),
        description="for features and attention: a decoder layer, by its number in the paper, from "
        "0, or by module name; can be repeated (four, from coarse to fine)",
        json_schema_extra={"metavar": "LAYER"},
    )
    at: Annotated[Shares, Lifetime.FINISHING] = Field(
        default=(),
        description="which steps to show: 0 is the noise, 1 the finished picture (a few)",
    )
    side: Annotated[int, Lifetime.FINISHING] = Field(
        default=DEFAULT_SIDE,
        ge=32,
        le=1024,
        description="longer side of each picture, in pixels",
    )
    output: Annotated[PathText, Lifetime.FINISHING] = Field(
        description="by suffix: a picture with a few frames of each source, or a video or folder "
        "with all frames",
        json_schema_extra={
            "short": "-o",
            "metavar": "OUT",
            "missing": "a picture or video to write, such as -o inside.png",
        },
    )


class VisualizeSettings(ShowSettings, SubjectSettings):
    """All options of `visualize`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.beside and self.job is not None:
            raise InputError("a job keeps one source; leave out job or beside")
        if self.beside and self.control_image is not None:
            raise InputError("control_image is for one source; give control, or leave out beside")
        if self.show == "words" and not (self.prompt or self.inversion_prompt):
            raise InputError("give a prompt with the words to find in the source")
        if self.layer and self.show not in ("features", "attention"):
            raise InputError(f"{self.show} has no layers to choose; leave out layer")
        return self


GROUPS = by_title(
    SourceSettings, ShowSettings, TextSettings, MethodSettings, ModelSettings, MachineSettings
)
"""The groups of `VisualizeSettings` by title, in the order of a help text."""
