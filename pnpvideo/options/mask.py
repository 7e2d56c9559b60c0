"""Options of local edits: which part of a source is edited."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options
from pnpvideo.options.paths import PathText
from pnpvideo.options.values import MaskLabels

DEFAULT_FEATHER = 2


class MaskOptions(Options):
    """Options for finding the edited part. Outside it the result is the source itself."""

    mask_from_prompt: Annotated[str | None, Lifetime.SAMPLING] = Field(
        default=None,
        description='edit only what this text names in the source, such as "the dog"',
        json_schema_extra={"metavar": "TEXT"},
    )
    mask_label: Annotated[MaskLabels, Lifetime.SAMPLING] = Field(
        default=(),
        description="edit only this label of the mask, a number such as 2 or a colour such as "
        "#800000; can be repeated (every label but 0, or black)",
    )
    mask_motion: Annotated[bool, Lifetime.SAMPLING] = Field(
        default=False,
        description="move a one-frame mask along with the motion of the source, from its first "
        "frame on",
    )
    invert_mask: Annotated[bool, Lifetime.SAMPLING] = Field(
        default=False, description="edit everything outside the mask instead"
    )
    mask_feather: Annotated[int, Lifetime.SAMPLING] = Field(
        default=DEFAULT_FEATHER,
        ge=0,
        le=8192,
        description="width of the soft edge in pixels, at the working size: the edit fades in from "
        "the mask's edge inward",
    )

    def check_use(self, mask: bool) -> None:
        """Raise InputError if an option needs a missing mask. mask: whether one is given."""
        if mask and self.mask_from_prompt is not None:
            raise InputError("give a mask or mask_from_prompt, not both")
        if self.mask_from_prompt is not None and not self.mask_from_prompt.strip():
            raise InputError("mask_from_prompt is empty; name what is to be edited")
        if self.mask_label and not mask:
            raise InputError("mask_label needs a mask, and there is none; give one")
        if self.mask_motion and not mask:
            raise InputError("mask_motion needs a mask, and there is none; give one")
        if self.invert_mask and not mask and self.mask_from_prompt is None:
            raise InputError("invert_mask needs a mask, and there is none; give one")


class MaskSettings(MaskOptions, title="local edit"):
    """The part of the source that a run edits."""

    mask: Annotated[PathText | None, Lifetime.SAMPLING] = Field(
        default=None,
        description="edit only where this picture, video or folder of frames is white (not black) "
        "or has a label; it must have the source's size, and one frame or as many as the source",
        json_schema_extra={"metavar": "FILE"},
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.check_use(self.mask is not None)
        return self
