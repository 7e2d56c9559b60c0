"""A source in whichever form a Python user has it, to a clip."""

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
"""What a video may be: a Clip; a path (see `read_clip`); one PIL image or a list; an array (frames,
height, width, 3) or a tensor (frames, 3, height, width), uint8 or 0 to 1, of one frame too, or of
one video in a batch; a list of frames as arrays or tensors."""


def as_clip(video: Video) -> Clip:
    """A clip of whatever form a video has (see `Video`). InputError where it cannot be used."""
    if isinstance(video, Clip):
        return video
    if isinstance(video, str | Path):
        return read_clip(video)
    if isinstance(video, Tensor):
        return clip_of_frames(as_frames(_array(video)))
    if isinstance(video, list | tuple):
        video = [_array(one) if isinstance(one, Tensor) else one for one in video]
    return clip_of_frames(as_frames(video))


def _array(tensor: Tensor) -> NDArray[np.generic]:
    """Channels last, where the tensor has them before height and width."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy knows no bfloat16.
    if tensor.ndim >= 3 and tensor.shape[-3] == 3:
        tensor = tensor.movedim(-3, -1)
    array: NDArray[np.generic] = tensor.numpy()
    return array
