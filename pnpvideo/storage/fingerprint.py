"""Fingerprints: short texts that are equal if two runs have the same input.

They are computed from content, not from names and dates: moving a source or a model keeps its
fingerprint, and changing it in place does not.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.storage.latent_file import bytes_of


class _Configuration(Protocol):
    def to_dict(self) -> dict[str, object]: ...


class ModelPart(Protocol):
    """A part of a model, of diffusers or transformers."""

    @property
    def config(self) -> Mapping[str, object] | _Configuration: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...


def of_values(*values: object) -> str:
    """Hash values; those that JSON cannot write are hashed by their str()."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors, on any device: names, types, shapes and contents."""
    plain = _plain(tensors)
    return of_values([(name, str(t.dtype), tuple(t.shape), _checksum(t)) for name, t in plain])


def of_modules(*modules: ModelPart | None) -> str:
    """Hash the weights and configurations of a model's parts; None stands for a missing part.

    The hash therefore depends on everything that was merged into the weights, and their precision.
    """
    parts = [
        (_configuration(module), of_tensors(module.state_dict().items()))
        for module in modules
        if module is not None
    ]
    return of_values(parts)


class ClipFingerprint:
    """A hash of a clip's pixels, built up as its frames are read in order."""

    def __init__(self, clip: Clip) -> None:
        self._size = (clip.width, clip.height)
        self._sums: list[int] = []

    def add(self, frames: Frames) -> None:
        self._sums += [zlib.crc32(np.ascontiguousarray(frame).data) for frame in frames]

    def __str__(self) -> str:
        return of_values(*self._size, self._sums)


def _plain(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield named tensors; quantized ones, which hold others, as those that they hold."""
    for name, tensor in tensors:
        flatten = getattr(tensor, "__tensor_flatten__", None)
        if flatten is None:
            yield name, tensor
        else:
            held, _ = flatten()
            yield from _plain((f"{name}.{part}", getattr(tensor, part)) for part in held)


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(bytes_of(tensor.detach().cpu().contiguous()))


def _configuration(module: ModelPart) -> dict[str, object]:
    config = module.config
    values = config if isinstance(config, Mapping) else config.to_dict()
    # The place it was loaded from and the version that wrote it change no result.
    return {k: v for k, v in values.items() if not k.startswith("_") and "version" not in k}
