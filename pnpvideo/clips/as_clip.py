"""Frames in memory, in whichever form a Python user has them, to a clip."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pnpvideo.clips.clip import Clip, clip_of_frames
from pnpvideo.errors import InputError

Video = Clip | Image.Image | Sequence[Image.Image] | NDArray[np.generic] | Tensor
"""What a video may be: a Clip; one PIL image or a list; an array (frames, height, width, 3), uint8
or float 0 to 1; a tensor (frames, 3, height, width), 0 to 1."""


def as_clip(video: Video) -> Clip:
    """A clip of whatever form a video has (see `Video`)."""
    if isinstance(video, Clip):
        return video
    if isinstance(video, Image.Image):
        video = [video]
    if isinstance(video, Tensor):
        video = video.detach().float().movedim(-3, -1).cpu().numpy()
    if not isinstance(video, np.ndarray):
        sizes = {image.size for image in video}
        if len(sizes) != 1:
            raise InputError(f"the frames have {len(sizes)} sizes; all need the same")
        video = np.stack([np.asarray(image.convert("RGB")) for image in video])
    if video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
        raise InputError(f"frames have shape {video.shape}, not (frames, height, width, 3)")
    if video.dtype != np.uint8:
        video = (np.clip(video, 0, 1) * 255).round()
    return clip_of_frames(video.astype(np.uint8, copy=False))
