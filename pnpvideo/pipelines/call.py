"""The values of a call, read and checked, and its results, for all pipelines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from pnpvideo.clips.as_clip import Video, as_clip
from pnpvideo.clips.as_mask import as_mask
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.errors import InputError
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.declared import unknown_option
from pnpvideo.options.mask import MaskOptions
from pnpvideo.options.method import PnPOptions, Preset
from pnpvideo.options.settings import MachineSettings
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.callbacks import Bar, Bars
from pnpvideo.stages.edit import EditResult
from pnpvideo.stages.prompts import Texts
from pnpvideo.storage.trajectory import Trajectory

DIFFUSERS_NAMES = {
    "num_inference_steps": "steps",
    "num_inversion_steps": "inversion_steps",
    "controlnet_conditioning_scale": "control_scale",
    "control_guidance_end": "control_end",
}
"""diffusers' names of options that have a shorter one here."""


@dataclass
class PnPVideoPipelineOutput(BaseOutput):
    """The output of a call.

    Attributes:
        frames: For each prompt its frames, in the form that `output_type` names. "pil": list of
            lists of images; "np": float (prompts, frames, height, width, 3), 0 to 1; "pt":
            (prompts, frames, 3, height, width), 0 to 1; "latent": (prompts, frames, c, h, w).
        trajectory: The source's, to be given again for other prompts.
    """

    frames: Any
    trajectory: Trajectory


def options_of(
    base: PnPOptions,
    preset: Preset | None,
    changes: Mapping[str, object],
    call: Callable[..., object],
) -> PnPOptions:
    """Return the options of a call. InputError for a keyword that it does not have."""
    named = {DIFFUSERS_NAMES.get(name, name): value for name, value in changes.items()}
    for name in named.keys() - PnPOptions.model_fields.keys():
        keywords = (*DIFFUSERS_NAMES, *MaskOptions.model_fields, *signature(call).parameters)
        raise unknown_option(name, (*PnPOptions.model_fields, *keywords))
    return base.at(preset).override(named)


def area_of(
    mask: Video | None, keywords: Mapping[str, object]
) -> tuple[Area | None, dict[str, object]]:
    """Return what is edited, and the keywords that are not options of that."""
    own = {name: value for name, value in keywords.items() if name in MaskOptions.model_fields}
    area = Area.of(None if mask is None else as_mask(mask), MaskOptions.of(own))
    return area, {name: value for name, value in keywords.items() if name not in own}


def picture_of(image: Video) -> Image.Image:
    """Return the picture that an IP-Adapter reads. InputError unless it is a single one."""
    clip = as_clip(image)
    if len(clip) != 1:
        raise InputError(f"ip_adapter_image has {len(clip)} frames; give one picture")
    return Image.fromarray(clip.read(0, 1)[0])


def one_source(
    video: Video | None,
    image: Video | None,
    guidance_prompt: str | None,
    trajectory: Trajectory | None,
) -> Clip | Trajectory | None:
    """Return the source that is given. InputError unless it is exactly one."""
    if video is not None and image is not None:
        raise InputError("give the source as video or as image, not both")
    video = image if video is None else video
    if (video is not None) + (guidance_prompt is not None) + (trajectory is not None) != 1:
        raise InputError("give exactly one of video, guidance_prompt and trajectory")
    return trajectory if video is None else as_clip(video)


def one_of(
    name: str, texts: str | Sequence[str] | None, hidden: Tensor | None, pooled: Tensor | None
) -> Texts | None:
    """Return texts or the embeddings in their place. InputError for both."""
    if hidden is None:
        return texts
    if texts is not None:
        raise InputError(f"give either a {name} or {name}_embeds")
    return PromptEmbeddings(
        hidden=hidden.detach(), pooled=None if pooled is None else pooled.detach()
    )


def check_call(output_type: str, batch_size: int) -> None:
    """Raise InputError for values that no call can use."""
    if output_type not in ("pil", "np", "pt", "latent"):
        raise InputError(f"output_type is {output_type!r}; give pil, np, pt or latent")
    MachineSettings.check("batch_size", batch_size)


def output_of(result: EditResult, output_type: str) -> Any:
    """Return the results of a call in the form that output_type names."""
    if output_type == "latent":
        return result.latents
    clips: list[Frames] = [result.all_frames(index) for index in range(len(result))]
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames] for frames in clips]
    stacked = np.stack(clips).astype(np.float32) / 255
    return stacked if output_type == "np" else torch.from_numpy(stacked).movedim(-1, -3)


def bars_of_pipe(pipe: object) -> Bars:
    """Return a maker of progress bars, as a pipeline's `set_progress_bar_config` says."""
    return lambda **own: Bar(**own | getattr(pipe, "_progress_bar_config", {}))
