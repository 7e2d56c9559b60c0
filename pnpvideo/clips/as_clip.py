"""Conversion of any source that a Python user may have to a clip."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pnpvideo.clips.as_frames import Pictures, as_frames, channels_last, only_list
from pnpvideo.clips.clip import Clip, Frames, clip_of_frames
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.options.method import DEFAULT_BATCH_SIZE

Encoded = bytes | bytearray | io.BytesIO
"""The content of a file."""
_Picture = Image.Image | NDArray[np.generic] | Tensor | str | Path | Encoded
Video = Clip | _Picture | Sequence[_Picture]
"""Accepted forms of a video: a Clip; a path (see `read_clip`) or the content of a file; a PIL image
or a list of them; an array (frames, height, width, 3) or a tensor (frames, 3, height, width), uint8
or 0 to 1, also of a single frame, of grey or of one video in a batch; a list of frames as arrays,
tensors, paths or contents of files."""


def as_clip(video: Video) -> Clip:
    """Return a clip of any form of video (see `Video`). Raise InputError if it cannot be used."""
    if isinstance(video, Clip):
        return video
    if isinstance(video, str | Path):
        return read_clip(video)
    if isinstance(video, list | tuple):
        return clip_of_frames(as_frames([_plain(picture) for picture in only_list(video)]))
    return clip_of_frames(as_frames(_plain(video)))


def batches_of(frames: "Video | Iterable[Video]") -> Iterator[Frames]:
    """Yield the frames of any form of video, or of an iterator of batches of them, in order.

    They are never all read together, unless they are in memory. A batch may be empty. InputError
    if they cannot be used.
    """
    if isinstance(frames, Clip | str | Path):
        yield from as_clip(frames).batches(DEFAULT_BATCH_SIZE)
    elif isinstance(frames, Image.Image | np.ndarray | Tensor | Encoded):
        yield _batch(frames)
    elif isinstance(frames, list | tuple) and frames:
        yield from map(_batch, only_list(frames))
    elif isinstance(frames, Iterable):
        yield from map(_batch, frames)
    else:
        raise InputError(f"frames are of type {type(frames).__name__}; give pictures or batches")


def _batch(frames: object) -> Frames:
    if isinstance(frames, np.ndarray) and frames.ndim == 4 and len(frames) == 0:
        return np.zeros(frames.shape, np.uint8)
    clip = as_clip(frames)  # type: ignore[arg-type]  # It refuses what is not one.
    return clip.read(0, len(clip))


def check_strided(tensor: Tensor, name: str = "the tensor") -> None:
    """Raise InputError for a tensor without values, or whose values are not stored one by one."""
    if tensor.is_meta:
        raise InputError(f"{name} is on the device meta, without values; give one with values")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InputError(f"{name} is sparse or quantized; give tensor.to_dense() or dequantize()")


def array_of(tensor: Tensor) -> NDArray[np.generic]:
    """Return a tensor's values. InputError for one that has none, or is sparse."""
    check_strided(tensor)
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16.
    array: NDArray[np.generic] = tensor.numpy()
    return array


@contextmanager
def file_clip(file: str | Path | Encoded, **options: object) -> Iterator[Clip]:
    """Open a file, or the content of one, within this context (see `read_clip`)."""
    with ExitStack() as open_things:
        if not isinstance(file, Encoded):
            clip = read_clip(file, **options)
        else:
            path = Path(open_things.enter_context(TemporaryDirectory()), "content")
            path.write_bytes(file.getvalue() if isinstance(file, io.BytesIO) else file)
            try:
                clip = read_clip(path, **options)
            except InputError as error:
                text = str(error).replace(str(path), "the content that is given")
                raise InputError(text) from None
        open_things.callback(clip.close)
        yield clip


def _plain(picture: object) -> Pictures:
    """Return frames in one of the forms that `as_frames` takes."""
    if isinstance(picture, Tensor):
        array = array_of(picture)
        frames = channels_last(array, first=True)
        return array if frames is None else frames
    if isinstance(picture, str | Path | Encoded):
        with file_clip(picture) as clip:
            return clip.read(0, len(clip))
    return picture  # type: ignore[return-value]  # as_frames refuses what is not one
