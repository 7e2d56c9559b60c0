"""Conversion of any source that a Python user may have to a clip."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pnpvideo.clips.as_frames import as_frames
from pnpvideo.clips.clip import Clip, clip_of_frames
from pnpvideo.clips.read import read_clip

_Picture = Image.Image | NDArray[np.generic] | Tensor
Video = Clip | str | Path | _Picture | Sequence[_Picture]
"""Accepted forms of a video: a Clip; a path (see `read_clip`); a PIL image or a list of them; an
array (frames, height, width, 3) or a tensor (frames, 3, height, width), uint8 or 0 to 1, also of a
single frame or of one video in a batch; a list of frames as arrays or tensors."""


def as_clip(video: Video) -> Clip:
    """Return a clip of any form of video (see `Video`). Raise InputError if it cannot be used."""
    if isinstance(video, Clip):
        return video
    if isinstance(video, str | Path):
        return read_clip(video)
    if isinstance(video, Tensor):
        return clip_of_frames(as_frames(_array(video)))
    if isinstance(video, list | tuple):
        video = [_array(picture) if isinstance(picture, Tensor) else picture for picture in video]
    return clip_of_frames(as_frames(video))


def _array(tensor: Tensor) -> NDArray[np.generic]:
    """Return an array with the channels last, if the tensor has them before height and width."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16.
    if tensor.ndim >= 3 and tensor.shape[-3] == 3:
        tensor = tensor.movedim(-3, -1)
    array: NDArray[np.generic] = tensor.numpy()
    return array
