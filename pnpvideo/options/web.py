"""Options of the server of the web page."""

from typing import Annotated

from pydantic import Field

from pnpvideo.options.declared import Options
from pnpvideo.options.paths import PathText
from pnpvideo.options.values import EMBEDDED_MODEL, Texts

DEFAULT_FOLDER = "pnpvideo-web"


class WebOptions(Options):
    """Where the page is, what it offers, and how much it takes of each visitor."""

    model: Texts = Field(
        default=(EMBEDDED_MODEL,),
        description="a model that visitors can choose, as in translate; several may be given, and "
        f"the first is theirs to begin with ({EMBEDDED_MODEL})",
        json_schema_extra={"metavar": "MODEL"},
    )
    controlnet: str | None = Field(
        default=None,
        description="ControlNet for these models, as in translate; visitors choose what of their "
        "sources it follows",
        json_schema_extra={"metavar": "MODEL"},
    )
    folder: PathText = Field(
        default=DEFAULT_FOLDER,
        description="where uploads and runs are kept; the page serves nothing outside it",
        json_schema_extra={"metavar": "FOLDER"},
    )
    samples: PathText | None = Field(
        default=None,
        description="folder of sources to pick, each with a NAME.yaml of settings (the project's)",
        json_schema_extra={"metavar": "FOLDER"},
    )
    host: str = Field(
        default="127.0.0.1",
        description="address to listen on; 0.0.0.0 lets other machines in",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    port: int = Field(default=7860, ge=1, le=65535, description="to listen on")
    login: PathText | None = Field(
        default=None,
        description="file with a line NAME:PASSWORD for each who may use the page (everyone)",
        json_schema_extra={"metavar": "FILE"},
    )
    max_upload: int = Field(default=200, ge=1, description="MiB of one upload")
    max_pixels: int = Field(default=8_300_000, ge=1, description="of a frame of a source")
    max_frames: int = Field(default=240, ge=1, description="of a source in one run")
    max_waiting: int = Field(default=4, ge=1, description="runs of one visitor in the queue")
    keep_hours: Annotated[float, Field(gt=0)] = Field(
        default=24.0, description="after which uploads and runs are deleted"
    )
    device: str | None = Field(
        default=None,
        description="cuda, cuda:1, mps or cpu (the best one)",
        json_schema_extra={"metavar": "NAME"},
    )
