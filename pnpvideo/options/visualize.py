"""The settings of one run of `visualize`."""

from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options
from pnpvideo.options.method import MethodSettings
from pnpvideo.options.paths import PathText
from pnpvideo.options.settings import MachineSettings, ModelSettings, SourceSettings, TextSettings
from pnpvideo.options.subject import SubjectSettings
from pnpvideo.options.values import PathTexts, Texts

Show = Literal["features", "attention", "prediction", "correspondence", "words"]
DEFAULT_SIDE = 192


def _shares(given: object) -> tuple[float, ...]:
    """ "0.2,0.5", 0.2 or [0.2, 0.5] to (0.2, 0.5)."""
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


class ShowSettings(Options):
    """What is looked at, and where the pictures go."""

    show: Show = Field(
        default="features",
        description="features: what decoder layers make of the source, as colours (PCA, the same "
        "for all sources and frames); attention: where its places look, likewise; prediction: the "
        "picture that each step expects; correspondence: where frames show the same; words: where "
        "the prompt's words look",
    )
    beside: PathTexts = Field(
        default=(),
        description="another source in the same colours, and matched to the first; several may be "
        "given",
        json_schema_extra={"metavar": "SOURCE"},
    )
    layers: Texts = Field(
        default=(),
        alias="layer",
        description="of features and attention: a decoder layer by its number in the paper, from "
        "0, or a module's name; several may be given (four from coarse to fine)",
        json_schema_extra={"metavar": "LAYER"},
    )
    at: Shares = Field(
        default=(),
        description="at which shares of the steps, from the noise, 0, to the picture, 1 (some)",
    )
    side: int = Field(
        default=DEFAULT_SIDE, ge=32, le=1024, description="pixels of each picture's longer side"
    )
    output: PathText | None = Field(
        default=None,
        description="a picture of the first source's frames, or a few of them, or a video or "
        "folder of all, by suffix",
        json_schema_extra={"short": "-o", "metavar": "OUT"},
    )


class VisualizeSettings(ShowSettings, SubjectSettings):
    """What `visualize` does."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.output is None:
            raise InputError("give a picture or video to write, such as -o inside.png")
        if self.beside and self.job is not None:
            raise InputError("a job keeps one source; leave out job or beside")
        if self.beside and self.control_image is not None:
            raise InputError("control_image is of one source; give control, or leave out beside")
        if self.show == "words" and not (self.prompt or self.inversion_prompt):
            raise InputError("give a prompt whose words are looked for in the source")
        if self.layers and self.show not in ("features", "attention"):
            raise InputError(f"{self.show} has no layers to choose; leave out layer")
        return self


GROUPS: dict[str, type[Options]] = {
    "source": SourceSettings,
    "pictures": ShowSettings,
    "text": TextSettings,
    "method (defaults: the model's own, or the paper's)": MethodSettings,
    "model": ModelSettings,
    "machine": MachineSettings,
}
"""The groups of `VisualizeSettings` in the order and with the titles of a help text."""
