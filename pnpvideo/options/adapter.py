"""Options of an IP-Adapter: a picture that adds to the prompt."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options
from pnpvideo.options.paths import PathText


class AdapterSettings(Options, title="picture prompt"):
    """The picture that shows what results are to contain, and the IP-Adapter that reads it."""

    # The adapter, at its scale, is part of the network that inverts the source.
    ip_adapter: Annotated[PathText | None, Lifetime.INVERSION] = Field(
        default=None,
        description="IP-Adapter for this kind of model (.safetensors), which adds a "
        "picture to the prompt",
        json_schema_extra={"metavar": "FILE"},
    )
    image_encoder: Annotated[PathText | None, Lifetime.INVERSION] = Field(
        default=None,
        description="folder of the CLIP vision model that the IP-Adapter was trained with "
        "(image_encoder beside the adapter's file)",
        json_schema_extra={"metavar": "FOLDER"},
    )
    ip_adapter_image: Annotated[PathText | None, Lifetime.SAMPLING] = Field(
        default=None,
        description="picture for the IP-Adapter to read",
        json_schema_extra={"metavar": "FILE"},
    )
    ip_adapter_scale: Annotated[float, Lifetime.INVERSION] = Field(
        default=1.0, ge=0, le=2, description="how much the picture counts; 0: not at all"
    )

    @model_validator(mode="after")
    def _read(self) -> Self:
        if self.ip_adapter is not None and self.ip_adapter_image is None:
            raise InputError("an IP-Adapter needs a picture; give one with ip_adapter_image")
        if self.ip_adapter is None and self.image_encoder is not None:
            raise InputError("image_encoder is for an IP-Adapter; give one with ip_adapter")
        return self
