"""Options of the server of the web page."""

from typing import Annotated

from pydantic import Field

from pnpvideo.options.declared import Lifetime, Options, by_title
from pnpvideo.options.method import Count
from pnpvideo.options.paths import PathText
from pnpvideo.options.values import EMBEDDED_MODEL, Texts

DEFAULT_FOLDER = "pnpvideo-web"


class WebOptions(Options, title="page"):
    """The address of the page, the models it offers, and the limits for each visitor."""

    model: Annotated[Texts, Lifetime.INVERSION] = Field(
        default=(EMBEDDED_MODEL,),
        description="a model for visitors to choose, as in translate; can be repeated, and the "
        f"page starts with the first ({EMBEDDED_MODEL})",
        json_schema_extra={"metavar": "MODEL"},
    )
    controlnet: Annotated[str | None, Lifetime.INVERSION] = Field(
        default=None,
        description="ControlNet for these models, as in translate; visitors choose what it follows "
        "in their sources",
        json_schema_extra={"metavar": "MODEL"},
    )
    title: Annotated[str, Field(min_length=1, max_length=200), Lifetime.NOTHING] = Field(
        default="pnpvideo", description="title of the page"
    )
    about: Annotated[PathText | None, Lifetime.NOTHING] = Field(
        default=None,
        description="Markdown file to show below the title, such as whom to ask for help",
        json_schema_extra={"metavar": "FILE"},
    )
    folder: Annotated[PathText, Lifetime.NOTHING] = Field(
        default=DEFAULT_FOLDER,
        description="folder for uploads and runs; the page serves nothing outside it",
        json_schema_extra={"metavar": "FOLDER"},
    )
    samples: Annotated[PathText | None, Lifetime.NOTHING] = Field(
        default=None,
        description="folder of sources to choose from, with settings in NAME.yaml, and results in "
        "cards/NAME.webp (the bundled ones)",
        json_schema_extra={"metavar": "FOLDER"},
    )
    host: Annotated[str, Lifetime.NOTHING] = Field(
        default="127.0.0.1",
        description="address to listen on; 0.0.0.0 lets other machines connect",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    port: Annotated[int, Lifetime.NOTHING] = Field(
        default=7860, ge=1, le=65535, description="port to listen on"
    )
    allowed_host: Annotated[Texts, Lifetime.NOTHING] = Field(
        default=(),
        description="another name or address that browsers may use for the page, such as "
        "pnp.example.org, beside localhost and --host; can be repeated",
        json_schema_extra={"metavar": "NAME"},
    )
    root_path: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        pattern=r"^(https?://[^/?#]+)?(/[^?#]*)?$",
        description="path, or whole address, under which a reverse proxy serves the page, such "
        "as /pnp or https://example.org/pnp",
        json_schema_extra={"metavar": "PATH", "form": "/PATH or https://NAME/PATH"},
    )
    trusted_proxy: Annotated[Texts, Lifetime.NOTHING] = Field(
        default=(),
        description="address or network of a reverse proxy that says in X-Forwarded-For where "
        "visitors come from; can be repeated",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    login: Annotated[PathText | None, Lifetime.NOTHING] = Field(
        default=None,
        description="file with a line NAME:PASSWORD for each person who may log in (no login)",
        json_schema_extra={"metavar": "FILE"},
    )
    max_upload: Annotated[Count, Lifetime.NOTHING] = Field(
        default=200, description="size limit of one upload, in MiB"
    )
    max_pixels: Annotated[Count, Lifetime.NOTHING] = Field(
        default=8_300_000, description="maximum number of pixels in a frame of a source"
    )
    max_frames: Annotated[Count, Lifetime.NOTHING] = Field(
        default=240, description="maximum number of frames of a source in one run"
    )
    max_waiting: Annotated[Count, Lifetime.NOTHING] = Field(
        default=4,
        description="maximum number of runs in the queue from one address, or from one name if "
        "there is a login",
    )
    max_prompts: Annotated[Count, Lifetime.NOTHING] = Field(
        default=16, description="maximum number of prompts, and so of results, in one run"
    )
    max_prompt_length: Annotated[Count, Lifetime.NOTHING] = Field(
        default=2000, description="maximum number of characters in a prompt"
    )
    max_seconds: Annotated[Count, Lifetime.NOTHING] = Field(
        default=14_400, description="seconds after which a run is stopped"
    )
    keep_hours: Annotated[float, Field(gt=0, le=100_000), Lifetime.NOTHING] = Field(
        default=24.0, description="hours after which uploads and runs are deleted"
    )
    device: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="cuda, cuda:1, mps or cpu (the best available)",
        json_schema_extra={"metavar": "NAME"},
    )
    stop: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="stop a job of the server that uses --folder instead of serving: the name of "
        "the job, or all",
        json_schema_extra={"metavar": "JOB"},
    )


GROUPS = by_title(WebOptions)
"""The options of `web` by title."""
