"""Options of an IP-Adapter: a picture beside the prompt."""

from typing import Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options
from pnpvideo.options.paths import PathText


class AdapterSettings(Options):
    """The picture that says what results show, and who reads it."""

    ip_adapter: PathText | None = Field(
        default=None,
        description="IP-Adapter for this kind of model, a .safetensors file, which lets results "
        "show what a picture shows",
        json_schema_extra={"metavar": "FILE"},
    )
    image_encoder: PathText | None = Field(
        default=None,
        description="of the IP-Adapter: a folder of the CLIP vision model that it was trained with "
        "(image_encoder beside its file)",
        json_schema_extra={"metavar": "FOLDER"},
    )
    ip_adapter_image: PathText | None = Field(
        default=None,
        description="the picture that the IP-Adapter reads",
        json_schema_extra={"metavar": "FILE"},
    )
    ip_adapter_scale: float = Field(
        default=1.0, ge=0, le=2, description="how much the picture counts; 0: not at all"
    )

    @model_validator(mode="after")
    def _read(self) -> Self:
        if self.ip_adapter is not None and self.ip_adapter_image is None:
            raise InputError("an IP-Adapter reads a picture; give one with ip_adapter_image")
        if self.ip_adapter is None and self.image_encoder is not None:
            raise InputError("image_encoder is for an IP-Adapter; give one with ip_adapter")
        return self
