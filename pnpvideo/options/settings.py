"""The settings of one run of `translate`, in groups."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import Lifetime, Options, by_title
from pnpvideo.options.edit_method import SAMPLING_SOLVERS, UNGUIDED
from pnpvideo.options.mask import MaskSettings
from pnpvideo.options.method import (
    BRANCHES,
    DEFAULT_BATCH_SIZE,
    ControlKind,
    Count,
    PnPOptions,
)
from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import PathText
from pnpvideo.options.values import (
    DEFAULT_FRAME_RATE,
    DEFAULT_MAX_FRAMES,
    DEFAULT_MAX_PIXELS,
    DEFAULT_PLACE,
    DEFAULT_PRECISION,
    DEFAULT_QUALITY,
    DEFAULT_READER,
    DEFAULT_TRACKS,
    MEMORY_SHARE,
    Colour,
    FrameRate,
    HighRangeTreatment,
    Place,
    Precision,
    Reader,
    Seed,
    Size,
    Texts,
    Tracks,
)


class ReadSettings(Options):
    """Options for reading a source: which frames, and how (see `read_clip`)."""

    start: Annotated[int, Lifetime.INVERSION] = Field(
        default=0, ge=0, le=10**9, description="number of the first frame, from 0"
    )
    frame_count: Annotated[Count | None, Lifetime.INVERSION] = Field(
        default=None, alias="frames", description="maximum number of frames to use (all)"
    )
    stride: Annotated[Count, Lifetime.INVERSION] = Field(
        default=1, description="use every n-th frame"
    )
    frame_rate: Annotated[FrameRate | None, Lifetime.FINISHING] = Field(
        default=None,
        description="frames per second of a folder of images, such as 12 or 24000/1001 "
        f"({DEFAULT_FRAME_RATE})",
    )
    allow_truncated: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False, description="use what can be read of a truncated or damaged file"
    )
    background: Annotated[Colour, Lifetime.INVERSION] = Field(
        default=(255, 255, 255),
        description="colour behind a transparent source, by name or as #ff8000 (white)",
    )
    hdr: Annotated[HighRangeTreatment, Lifetime.INVERSION] = Field(
        default="map",
        description="for a high dynamic range (PQ, HLG): map colours to standard range (BT.709), "
        "or keep them as stored",
    )
    reader: Annotated[Reader, Lifetime.NOTHING] = Field(
        default=DEFAULT_READER,
        description="library that reads plain local videos: decord, in a process of its own, or av "
        "(PyAV), which reads all other videos",
    )
    max_pixels: Annotated[int, Lifetime.NOTHING] = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        le=2**40,
        description="refuse pictures and frames with more pixels, before they are decoded",
    )
    max_frames: Annotated[int, Lifetime.NOTHING] = Field(
        default=DEFAULT_MAX_FRAMES,
        ge=1,
        le=2**40,
        description="refuse sources with more frames, counted up to the last one that is used",
    )


class SourceSettings(ReadSettings, title="source"):
    """One source, which several prompts share."""

    source: Annotated[PathText | None, Lifetime.INVERSION] = Field(
        default=None,
        description="video, image, animated image, folder of images, or pattern such as "
        "frames/%04d.png",
        json_schema_extra={
            "brief": "video, image, folder of images, or pattern such as frames/%04d.png",
            "positional": True,
        },
    )
    guidance_prompt: Annotated[str | None, Lifetime.INVERSION] = Field(
        default=None,
        description="let the model make a source from this text, instead of reading one; for "
        "models that can, such as sd15",
    )
    inversion_prompt: Annotated[str, Lifetime.INVERSION] = Field(
        default="", description="text that describes the source (empty, as in the paper)"
    )
    size: Annotated[Size | None, Lifetime.INVERSION] = Field(
        default=None,
        description="working size in pixels (the source's aspect ratio, with about as many pixels "
        "as the model was trained for)",
    )
    control_image: Annotated[PathText | None, Lifetime.INVERSION] = Field(
        default=None,
        description="with a ControlNet: the picture, video or folder for it to follow, such as "
        "depth maps, with one frame for each frame of the source",
        json_schema_extra={"metavar": "FILE"},
    )


class TextSettings(Options, title="text"):
    """The texts that say what the results show."""

    prompt: Annotated[Texts, Lifetime.SAMPLING] = Field(
        default=(),
        description="what the result shows; several prompts give several results from one "
        "inversion",
        json_schema_extra={"brief": "what the result shows; repeat it for several results"},
    )
    negative_prompt: Annotated[Texts, Lifetime.SAMPLING] = Field(
        default=(),
        description="what the result must not show; one, or one for each prompt",
        json_schema_extra={"brief": "what the result must not show"},
    )
    # A source that the model makes is drawn by it too, but is never inverted.
    seed: Annotated[Seed, Lifetime.SAMPLING] = Field(
        default=0,
        description="seed for all random numbers",
        json_schema_extra={"brief": "seed for all random numbers"},
    )


class ResultSettings(Options, title="result"):
    """One result's file."""

    output: Annotated[PathText | None, Lifetime.FINISHING] = Field(
        default=None,
        description="video, image or animation by suffix, or a folder for frames; with several "
        "prompts, -1, -2, ... is added to the name (SOURCE-translated)",
        json_schema_extra={
            "brief": "result: video, image or animation by suffix, or a folder",
            "short": "-o",
            "metavar": "OUT",
        },
    )
    compare: Annotated[bool, Lifetime.FINISHING] = Field(
        default=False,
        description="also write OUT-compare: source and result side by side",
        json_schema_extra={"brief": "also write source and result side by side"},
    )
    original_size: Annotated[bool, Lifetime.FINISHING] = Field(
        default=False, description="resize the result from the working size to the source's size"
    )
    keep_alpha: Annotated[bool, Lifetime.FINISHING] = Field(
        default=False,
        description="keep the source's transparency in the result (png, webp, webm, mov and "
        "folders)",
    )
    quality: Annotated[int, Lifetime.FINISHING] = Field(
        default=DEFAULT_QUALITY, ge=1, le=100, description="quality of lossy formats"
    )
    sound: Annotated[Tracks, Lifetime.FINISHING] = Field(
        default=DEFAULT_TRACKS,
        description="sound tracks to copy from the source: its default one, all or none",
    )
    check_inversion: Annotated[bool, Lifetime.MEASURING] = Field(
        default=False,
        description="report how closely sampling reproduces the source from its inversion (PSNR)",
    )


class MachineSettings(Options, title="machine"):
    """Options of the machine: device, memory and storage. Only the precision changes the result."""

    job: Annotated[PathText | None, Lifetime.NOTHING] = Field(
        default=None,
        description="folder that keeps finished work: the same command resumes from it after an "
        "interruption, and other prompts reuse the inversion, which stays there",
        json_schema_extra={
            "brief": "folder that keeps finished work; the same command resumes from it",
            "metavar": "FOLDER",
        },
    )
    trajectory: Annotated[Place, Lifetime.NOTHING] = Field(
        default=DEFAULT_PLACE,
        description="where a run without a job keeps the inverted source; auto: in memory if it "
        f"takes at most {MEMORY_SHARE:.0%} of the free memory",
    )
    trajectory_precision: Annotated[Precision, Lifetime.INVERSION] = Field(
        default=DEFAULT_PRECISION,
        description="precision of the inverted source: half is float16, full is the precision "
        "of the latents",
    )
    batch_size: Annotated[int, Lifetime.NOTHING] = Field(
        default=DEFAULT_BATCH_SIZE,
        ge=1,
        le=2**31,
        description=f"frames to sample at once; inversion takes {BRANCHES} times as many; "
        "halved when memory runs out",
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
    """All options of `translate`, side by side.

    None leaves the choice to the model or to the machine. Leaving out an option of the method does
    the same (see `MethodSettings`).
    """

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check_subject(self.source, self.guidance_prompt)
        if not self.prompt:
            raise InputError("give a prompt that says what the result is to show")
        check_negatives(len(self.negative_prompt), len(self.prompt))
        check_followed(self.controlnet, self.control, self.control_image)
        if self.source is None and self.is_controlled:
            raise InputError(
                "a ControlNet cannot follow a source that the model makes; leave out control and "
                "control_image, or give a source"
            )
        return self

    @property
    def is_controlled(self) -> bool:
        """Whether there is something for a ControlNet to follow."""
        return self.control is not None or self.control_image is not None

    def ignored(self, options: PnPOptions) -> str | None:
        """Return a line about a setting that has no effect with the options of a run."""
        if self.negative_prompt and not options.is_guided:
            if options.method in UNGUIDED:
                return f"negative_prompt has no effect with method {options.method}"
            return "negative_prompt has no effect at guidance_scale 1; give a larger one"
        if self.source_guidance != 1 and options.method != "flowedit":
            return f"source_guidance has no effect with method {options.method}, only with flowedit"
        of_inversion = {"solver", "inversion_iterations"} & self.model_fields_set
        if options.solver in SAMPLING_SOLVERS and not options.edits_clean:
            of_inversion -= {"solver"}
        if of_inversion and not options.inverts:
            what = f"start_from {options.start_from}"
            if options.edits_clean:
                what = f"method {options.method}"
            return f"{min(of_inversion)} has no effect with {what}, which inverts nothing"
        return None


GROUPS = by_title(
    SourceSettings,
    TextSettings,
    AdapterSettings,
    MaskSettings,
    ResultSettings,
    MethodSettings,
    ModelSettings,
    MachineSettings,
)
"""The groups of `Settings` by title, in the order of a help text or a page."""


def check_subject(source: object | None, guidance_prompt: str | None) -> None:
    """Raise InputError unless there is either a source or a text to make one from."""
    if source is None and guidance_prompt is None:
        raise InputError(
            "give a source: a video, a picture or a folder of frames (or a guidance prompt, a text "
            "from which a large model makes one)"
        )
    if source is not None and guidance_prompt is not None:
        raise InputError("give either a source or a guidance prompt, not both")


def check_negatives(negatives: int, prompts: int) -> None:
    """Raise InputError unless the negative prompts can be matched with the prompts."""
    if negatives not in (0, 1, prompts):
        raise InputError(
            f"there are {negatives} negative prompts for {prompts} prompts; "
            "give one, or one for each"
        )


def check_followed(
    controlnet: str | None, control: ControlKind | None, image: object | None = None
) -> None:
    """Raise InputError if a ControlNet has nothing to follow, or two things."""
    if control is not None and image is not None:
        raise InputError("a ControlNet follows one thing; give control or control_image, not both")
    if controlnet is not None and control is None and image is None:
        raise InputError("a ControlNet needs something to follow; give control or control_image")
