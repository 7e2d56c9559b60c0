"""The settings of one run of `translate`, to and from a YAML file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from pnpvideo.atomic_output import atomic_output
from pnpvideo.errors import InputError
from pnpvideo.options.method import (
    DEFAULT_BATCH_SIZE,
    AttentionSharing,
    KeyframeStrategy,
    NegativeSchedule,
    NoiseSource,
    Preset,
)

Place = Literal["auto", "memory", "disk"]
Precision = Literal["half", "full"]

# Half precision costs nothing that can be seen: for six scenes of the embedded model's world, 15
# steps, the results are within 70 to 75 dB (PSNR) of those with float32, and as near to the true
# pictures to 0.001 dB (bfloat16: 61 to 68 dB, and 0.004 dB).
DEFAULT_PRECISION: Precision = "half"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `translate` does. None leaves a choice to the model or to the machine.

    source: a video, an animated or single image, a folder or numbered pattern of images; or
        guidance_prompt: a text from which the model makes the source.
    prompt: one text, or several for several results from one inversion.
    negative_prompt: none, one for all, or one for each prompt. inversion_prompt: what the
        source shows.
    output: file or folder; with several prompts -1, -2, ... is added to its name.
    model, model_config, lora, device, dtype: see `load_model`, where model_config is config; dtype
        is float32, bfloat16 or float16.
    offload: keep on the GPU only that part of the model which is at work.
    preset: how fast, see `PnPOptions.at`; what else is given wins over it.
    steps, inversion_steps, inversion_iterations, guidance_scale, guidance_start, guidance_end,
        tau_f, tau_a, negative_alpha, negative_schedule, noise_share, noise_source, noise_motion,
        eta, attention_sharing, keyframes, keyframe_every, keyframe_window, blend_radius: see
        `PnPOptions`.
    seed: of all noise. batch_size: frames in one pass of sampling.
    size: working (width, height) in pixels. original_size: bring the result to the source's size.
    start, frames, stride: number of the first frame, how many at most, every n-th.
    frame_rate: frames a second of a folder or pattern of images.
    allow_truncated: use what can be read of a damaged file.
    quality: of lossy formats, 1 to 100. compare: also write source and result side by side.
    check_inversion: also sample the source back and report how near it came (PSNR).
    job: a folder that keeps what is finished, so that the run started again goes on from there.
    trajectory, trajectory_precision: see `Storage`, where they are place and precision.
    """

    source: str | None = None
    guidance_prompt: str | None = None
    prompt: tuple[str, ...] = ()
    negative_prompt: tuple[str, ...] = ()
    inversion_prompt: str = ""
    output: str | None = None
    model: str = "embedded"
    model_config: str | None = None
    lora: tuple[str, ...] = ()
    device: str | None = None
    dtype: str | None = None
    offload: bool = False
    preset: Preset | None = None
    steps: int | None = None
    inversion_steps: int | None = None
    inversion_iterations: int | None = None
    guidance_scale: float | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    tau_f: float | None = None
    tau_a: float | None = None
    negative_alpha: float | None = None
    negative_schedule: NegativeSchedule | None = None
    noise_share: float | None = None
    noise_source: NoiseSource | None = None
    noise_motion: bool | None = None
    eta: float | None = None
    attention_sharing: AttentionSharing | None = None
    keyframes: KeyframeStrategy | None = None
    keyframe_every: int | None = None
    keyframe_window: int | None = None
    blend_radius: int | None = None
    seed: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    size: tuple[int, int] | None = None
    original_size: bool = False
    start: int = 0
    frames: int | None = None
    stride: int = 1
    frame_rate: Fraction | None = None
    allow_truncated: bool = False
    quality: int = 80
    compare: bool = False
    check_inversion: bool = False
    job: str | None = None
    trajectory: Place = "auto"
    trajectory_precision: Precision = DEFAULT_PRECISION

    def __post_init__(self) -> None:
        if (self.source is None) == (self.guidance_prompt is None):
            raise InputError("give either a source or a guidance prompt")
        if not self.prompt:
            raise InputError("give a prompt that says what the result is to show")
        if len(self.negative_prompt) not in (0, 1, len(self.prompt)):
            raise InputError(
                f"there are {len(self.negative_prompt)} negative prompts for {len(self.prompt)} "
                "prompts; give one, or one for each"
            )
        for name, least, most in (
            ("batch_size", 1, 2**31),
            ("seed", 0, 2**63),
            ("quality", 1, 101),
        ):
            value = getattr(self, name)
            if not least <= value < most:
                accepted = f"1 to {most - 1}" if name == "quality" else f"at least {least}"
                raise InputError(f"{name} is {value}; give a whole number, {accepted}")


_TYPES = get_type_hints(Settings)
_PATHS = ("source", "output", "model", "model_config", "lora", "job")


def parse_size(text: str) -> tuple[int, int]:
    """ "640x384" to (640, 384)."""
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise InputError(f"size is {text!r}; give WIDTHxHEIGHT, such as 640x384") from None


def parse_frame_rate(text: str | float) -> Fraction:
    """ "24", "23.976" or "24000/1001" to an exact number of frames a second."""
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InputError(
            f"frame rate is {text!r}; give frames a second above 0 and up to 1000, "
            "such as 12 or 24000/1001"
        )
    return rate


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file. Relative paths in it start from its folder."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the settings {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the settings {path} are no text") from None
    except yaml.YAMLError as error:
        raise InputError(f"the settings {path} are no YAML: {error}") from None
    if not isinstance(given, dict):
        raise InputError(f"the settings {path} hold no 'name: value' lines")
    unknown = sorted(set(map(str, given)) - set(_TYPES))
    if unknown:
        raise InputError(f"the settings {path} have an unknown name {unknown[0]!r}")

    for name in _PATHS:
        # A model that is not there by this path may be a hub id.
        if name in given and (name != "model" or _is_path(given[name], path.parent)):
            given[name] = _from_folder(path.parent, given[name])
    return given


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from plain values, each checked for its type. InputError names the wrong one."""
    return Settings(**{name: _checked(name, value) for name, value in values.items()})


def write_settings(
    settings: Settings, path: Path, resolved: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write all settings, those left open as they were resolved; the file reruns the same."""
    values = asdict(settings) | dict(resolved)
    for name in _PATHS:
        if name != "model" or _is_path(values[name], Path()):
            values[name] = _from_folder(Path.cwd(), values[name])
    if settings.size is not None:
        values["size"] = f"{settings.size[0]}x{settings.size[1]}"
    if settings.frame_rate is not None:
        values["frame_rate"] = str(settings.frame_rate)
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    with atomic_output(path, folder=False, overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8")


def _is_path(model: Any, folder: Path) -> bool:
    return isinstance(model, str) and model != "embedded" and (folder / model).exists()


def _from_folder(folder: Path, value: Any) -> Any:
    """A path, or each of several, joined to a folder; other values as they are."""
    if isinstance(value, list | tuple):
        return [_from_folder(folder, item) for item in value]
    if not isinstance(value, str):
        return value
    # Path would drop a slash at the end, which names a folder.
    return str(folder / Path(value).expanduser()) + "/" * value.endswith("/")


def _checked(name: str, value: Any) -> Any:
    if name not in _TYPES:
        raise InputError(f"there is no setting {name!r}")
    allowed = get_args(_TYPES[name]) or (_TYPES[name],)
    if value is None and NoneType in allowed:
        return None
    if name == "size":
        if isinstance(value, str):
            return parse_size(value)
        if isinstance(value, list | tuple) and [type(side) for side in value] == [int, int]:
            return tuple(value)
        raise InputError(f"size is {value!r}; give WIDTHxHEIGHT, such as 640x384")
    if name == "frame_rate" and type(value) in (str, int, float, Fraction):
        return parse_frame_rate(value)
    if get_origin(_TYPES[name]) is tuple:
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
            return tuple(texts)
        raise InputError(f"{name} is {value!r}; give a text or a list of texts")
    # isinstance would take true for a number.
    if bool in allowed:
        fits, wanted = isinstance(value, bool), "true or false"
    elif int in allowed:
        fits, wanted = type(value) is int, "a whole number"
    elif float in allowed:
        fits, wanted = type(value) in (int, float), "a number"
    else:
        fits, wanted, value = isinstance(value, str | Path), "a text", str(value)
    if not fits:
        raise InputError(f"{name} is {value!r}; give {wanted}")
    return value
