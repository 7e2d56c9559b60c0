"""The settings of one run of `translate`, in groups by what they outlive."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import Options
from pnpvideo.options.mask import MaskSettings
from pnpvideo.options.method import (
    BRANCHES,
    DEFAULT_BATCH_SIZE,
    ControlKind,
    MethodSettings,
    PnPOptions,
)
from pnpvideo.options.paths import PathText, plain_text
from pnpvideo.options.values import (
    DEFAULT_FRAME_RATE,
    DEFAULT_PLACE,
    DEFAULT_PRECISION,
    DEFAULT_QUALITY,
    DEFAULT_TRACKS,
    EMBEDDED_MODEL,
    MEMORY_SHARE,
    Colour,
    Dtype,
    FrameRate,
    HighRangeTreatment,
    PathTexts,
    Place,
    Precision,
    Prediction,
    Size,
    Texts,
    Tracks,
)


class ReadSettings(Options):
    """Which frames of a source are read, and how (see `read_clip`)."""

    start: int = Field(default=0, ge=0, description="number of the first frame, from 0")
    frame_count: Annotated[int, Field(ge=1)] | None = Field(
        default=None, alias="frames", description="how many frames at most (all)"
    )
    stride: int = Field(default=1, ge=1, description="take every n-th frame")
    frame_rate: FrameRate | None = Field(
        default=None,
        description="frames a second of a folder of images, such as 12 or 24000/1001 "
        f"({DEFAULT_FRAME_RATE})",
    )
    allow_truncated: bool = Field(
        default=False, description="use what can be read of a cut or damaged file"
    )
    background: Colour = Field(
        default=(255, 255, 255),
        description="what shows where the source is transparent: a colour by name or as #ff8000 "
        "(white)",
    )
    hdr: HighRangeTreatment = Field(
        default="map",
        description="what becomes of a video of high dynamic range (PQ, HLG): map brings it to "
        "that of BT.709, keep takes its colours as they are stored",
    )


class SourceSettings(ReadSettings):
    """One source: what outlives the prompts."""

    source: PathText | None = Field(
        default=None,
        description="video, image, animated image, folder of images, or pattern such as "
        "frames/%04d.png",
        json_schema_extra={"positional": True},
    )
    guidance_prompt: str | None = Field(
        default=None,
        description="instead of a source: let the model make the source from this text",
    )
    inversion_prompt: str = Field(
        default="", description="what the source shows (empty, as in the paper)"
    )
    size: Size | None = Field(
        default=None, description="working size in pixels (the model's own area)"
    )
    control_image: PathText | None = Field(
        default=None,
        description="with a ControlNet: the picture, video or folder that it follows, such as of "
        "depth, with a frame for each of the source's",
        json_schema_extra={"metavar": "FILE"},
    )


class TextSettings(Options):
    """What the results show."""

    prompt: Texts = Field(
        default=(),
        description="what the result shows; several give several results from one inversion",
    )
    negative_prompt: Texts = Field(
        default=(), description="what the result must not show; one, or one for each prompt"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="of all that is drawn")


class ResultSettings(Options):
    """One result's file."""

    output: PathText | None = Field(
        default=None,
        description="video, image or animation by suffix, or a folder for frames; with several "
        "prompts -1, -2, ... is added to its name (SOURCE-translated)",
        json_schema_extra={"short": "-o", "metavar": "OUT"},
    )
    compare: bool = Field(
        default=False, description="also write OUT-compare: source and result side by side"
    )
    original_size: bool = Field(
        default=False,
        description="bring the result to the source's size (otherwise it has the working size)",
    )
    keep_alpha: bool = Field(
        default=False,
        description="put the source's transparency back onto the result, in png, webp, webm, mov "
        "and folders",
    )
    quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100, description="of lossy formats")
    sound: Tracks = Field(
        default=DEFAULT_TRACKS,
        description="which of the source's sound tracks a video has: its default one, all or none",
    )
    check_inversion: bool = Field(
        default=False, description="report how near the source comes when it is sampled back (PSNR)"
    )


class ModelSettings(Options):
    """One loaded model (see `load_model`, where model_config is config)."""

    model: Annotated[str, BeforeValidator(plain_text)] = Field(
        default=EMBEDDED_MODEL,
        description=f"{EMBEDDED_MODEL} (small, offline, draws things), a diffusers folder, a hub "
        "id such as owner/name, or a .safetensors checkpoint; Stable Diffusion 1.x, 2.x or XL",
        json_schema_extra={"format": "path or name", "metavar": "MODEL"},
    )
    # pydantic has a model_config of its own.
    config_folder: PathText | None = Field(
        default=None,
        alias="model_config",
        description="for a checkpoint, where there is no network: a diffusers folder of the same "
        "kind of model, for its configuration and tokenizer",
        json_schema_extra={"metavar": "FOLDER"},
    )
    prediction_type: Prediction | None = Field(
        default=None, description="what the model predicts, where it does not say so itself"
    )
    loras: PathTexts = Field(
        default=(),
        alias="lora",
        description="LoRA file or folder, perhaps with its weight, such as style.safetensors:0.8 "
        "(1); several may be given",
        json_schema_extra={"metavar": "FILE"},
    )
    embeddings: PathTexts = Field(
        default=(),
        alias="embedding",
        description="textual inversion (.safetensors), whose word prompts may then say: the one in "
        "the file, or the file's name, or one of yours, such as toy.safetensors:<toy>; several may "
        "be given",
        json_schema_extra={"metavar": "FILE"},
    )
    controlnet: Annotated[str | None, BeforeValidator(plain_text)] = Field(
        default=None,
        description="ControlNet for this kind of model, a diffusers folder, a hub id or a "
        ".safetensors file, which follows --control or --control-image",
        json_schema_extra={"format": "path or name", "metavar": "MODEL"},
    )
    device: str | None = Field(
        default=None,
        description="cuda, cuda:1, mps or cpu (the best one)",
        json_schema_extra={"metavar": "NAME"},
    )
    dtype: Dtype | None = Field(default=None, description="of the model (what suits the device)")
    offload: bool = Field(
        default=False,
        description="for a small GPU: keep only the part of the model at work on it; slower",
    )


class MachineSettings(Options):
    """How the machine is used; the result does not depend on it."""

    job: PathText | None = Field(
        default=None,
        description="a folder that keeps what is finished: the same command goes on from there "
        "after a break, and other prompts reuse the inversion, which stays",
        json_schema_extra={"metavar": "FOLDER"},
    )
    trajectory_place: Place = Field(
        default=DEFAULT_PLACE,
        alias="trajectory",
        description="where the inverted source is kept during a run without a job; auto: in "
        f"memory where it takes at most {MEMORY_SHARE:.0%} of what is free",
    )
    trajectory_precision: Precision = Field(
        default=DEFAULT_PRECISION,
        description="of the inverted source: half is float16, full that of the latents",
    )
    batch_size: int = Field(
        default=DEFAULT_BATCH_SIZE,
        ge=1,
        le=2**31,
        description=f"frames in one pass of sampling, {BRANCHES} times as many in one of "
        "inversion; "
        "halved where the memory is not enough",
    )


# pydantic lists the options of the last class first.
class Settings(
    MachineSettings,
    ModelSettings,
    MethodSettings,
    ResultSettings,
    MaskSettings,
    AdapterSettings,
    TextSettings,
    SourceSettings,
):
    """What `translate` does, one option beside the other. None leaves a choice to the model or to
    the machine; so do options of the method that are not given (see `MethodSettings`).
    """

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.source is None) == (self.guidance_prompt is None):
            raise InputError("give either a source or a guidance prompt")
        if not self.prompt:
            raise InputError("give a prompt that says what the result is to show")
        check_negatives(len(self.negative_prompt), len(self.prompt))
        check_followed(self.controlnet, self.control, self.control_image)
        if self.source is None and self.is_controlled:
            raise InputError(
                "a source that the model makes follows no ControlNet; leave out control and "
                "control_image, or give a source"
            )
        return self

    @property
    def is_controlled(self) -> bool:
        """Whether there is something for a ControlNet to follow."""
        return self.control is not None or self.control_image is not None

    def ignored(self, options: PnPOptions) -> str | None:
        """What was given and does nothing with the options of a run, in a line."""
        if self.negative_prompt and not options.is_guided:
            return "negative_prompt does nothing at guidance_scale 1; give a larger one"
        return None


GROUPS: dict[str, type[Options]] = {
    "source": SourceSettings,
    "text": TextSettings,
    "picture beside the text": AdapterSettings,
    "local edit": MaskSettings,
    "result": ResultSettings,
    "method (defaults: the model's own, or the paper's)": MethodSettings,
    "model": ModelSettings,
    "machine": MachineSettings,
}
"""The groups of `Settings` in the order and with the titles that a help text or a page has."""


def check_negatives(negatives: int, prompts: int) -> None:
    """InputError unless there are as many negative prompts as can be told to belong to prompts."""
    if negatives not in (0, 1, prompts):
        raise InputError(
            f"there are {negatives} negative prompts for {prompts} prompts; "
            "give one, or one for each"
        )


def check_followed(
    controlnet: str | None, control: ControlKind | None, image: object | None = None
) -> None:
    """InputError where a ControlNet has nothing to follow, or two things."""
    if control is not None and image is not None:
        raise InputError("a ControlNet follows one thing; give control or control_image, not both")
    if controlnet is not None and control is None and image is None:
        raise InputError("a ControlNet needs something to follow; give control or control_image")
