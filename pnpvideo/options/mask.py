"""Options of local edits: which part of a source is edited."""

from typing import Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options
from pnpvideo.options.paths import PathText

DEFAULT_FEATHER = 2


class MaskOptions(Options):
    """How the part is found. Outside it the result is the source itself."""

    mask_from_prompt: str | None = Field(
        default=None,
        description='edit only what this names in the source, such as "the dog"',
        json_schema_extra={"metavar": "TEXT"},
    )
    mask_motion: bool = Field(
        default=False,
        description="let a mask of one frame move with the source, from its first frame on",
    )
    invert_mask: bool = Field(default=False, description="edit the other part")
    mask_feather: int = Field(
        default=DEFAULT_FEATHER,
        ge=0,
        description="pixels of the working size over which the edit sets in, from the edge inward",
    )

    def check_use(self, mask: bool) -> None:
        """InputError for options that have nothing to work on. mask: whether one is given."""
        if mask and self.mask_from_prompt is not None:
            raise InputError("give a mask or mask_from_prompt, not both")
        if self.mask_from_prompt is not None and not self.mask_from_prompt.strip():
            raise InputError("mask_from_prompt is empty; name what is to be edited")
        if self.mask_motion and not mask:
            raise InputError("mask_motion moves a mask, and there is none; give one")
        if self.invert_mask and not mask and self.mask_from_prompt is None:
            raise InputError("invert_mask needs a mask, and there is none; give one")


class MaskSettings(MaskOptions):
    """The part that a run edits."""

    mask: PathText | None = Field(
        default=None,
        description="edit only where this picture, video or folder of frames is white and not "
        "black; as large and as many frames as the source, or one for all",
        json_schema_extra={"metavar": "FILE"},
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.check_use(self.mask is not None)
        return self
