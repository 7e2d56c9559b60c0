"""The settings of one run of `blocks`: what is measured of a transformer's blocks, and on what."""

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options, by_title
from pnpvideo.options.grid import split_place
from pnpvideo.options.method import Count
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import PathText, plain_text
from pnpvideo.options.values import PathTexts, Size, Texts


def _kinds(given: str) -> str:
    if not given or set(given) - set("qkvf"):
        raise ValueError
    return "".join(dict.fromkeys(given))


class BlocksModel(ModelSettings, title="model"):
    """The model, which is given without a flag."""

    model: Annotated[str, BeforeValidator(plain_text), Lifetime.INVERSION] = Field(
        description="model with a transformer, such as flux2-klein, a diffusers folder or a hub id",
        json_schema_extra={
            "format": "path or name",
            "positional": True,
            "missing": "a model with a transformer, such as flux2-klein or its folder",
        },
    )


class BlocksChoice(Options, title="blocks"):
    """The pictures to measure on, the things to measure, and the place of the measures."""

    pictures: Annotated[PathTexts, Lifetime.INVERSION] = Field(
        default=(),
        description="pictures to measure on, or clips, of which the first frame is taken (the "
        "bundled samples, with their own prompts)",
        json_schema_extra={"positional": True},
    )
    prompt: Annotated[Texts, Lifetime.SAMPLING] = Field(
        default=(),
        description="what the results show; can be repeated, to measure with each on each picture",
    )
    kinds: Annotated[str, AfterValidator(_kinds), Lifetime.SAMPLING] = Field(
        default="kv",
        description="what to inject of a block: queries (q), keys (k), values (v) and output "
        "features (f)",
        json_schema_extra={"form": "some of the letters q, k, v and f, such as kv"},
    )
    skip: Annotated[bool, Lifetime.SAMPLING] = Field(
        default=False,
        description="skip one block at a time, to find those that matter most, in place of "
        "injecting into it",
    )
    steps: Annotated[int | None, Field(ge=1, le=999), Lifetime.INVERSION] = Field(
        default=None, description="sampling steps (the model's own)"
    )
    size: Annotated[Size | None, Lifetime.INVERSION] = Field(
        default=None, description="working size in pixels (as in translate)"
    )
    network: Annotated[Texts, Lifetime.MEASURING] = Field(
        default=(),
        description="ROLE=FOLDER or ROLE=HUB_ID: a network to measure with instead of the model "
        "itself; the role is structure (DINO) or clip",
        json_schema_extra={"metavar": "ROLE=PLACE"},
    )
    top: Annotated[Count | None, Lifetime.NOTHING] = Field(
        default=None, description="how many blocks the table has (a sixth of all)"
    )
    write: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False,
        description="write the table into pnp.json in the model's folder, whose other entries stay",
    )
    output: Annotated[PathText, Lifetime.NOTHING] = Field(
        description="folder for measures, ranking and plot",
        json_schema_extra={
            "short": "-o",
            "metavar": "DIR",
            "missing": "a folder for the measures, with -o",
        },
    )


# pydantic lists the options of the last class first.
class BlocksSettings(BlocksChoice, BlocksModel):
    """All options of `blocks`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.pictures and not self.prompt:
            raise InputError("give a prompt that says what the results are to show")
        for text in self.network:
            split_place(text)
        for name, texts in (("pictures", self.pictures), ("prompt", self.prompt)):
            if len(set(texts)) < len(texts):
                raise InputError(f"{name} has a value twice; give each once")
        return self


GROUPS = by_title(BlocksModel, BlocksChoice)
"""The groups of `BlocksSettings` by title, in the order of a help text."""
