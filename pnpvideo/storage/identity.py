"""Short texts that tell whether two runs have the same input.

Made of the content, not of names and dates: a source or a model may be moved and stays the same,
and one that is changed in place does not.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pnpvideo.clips.clip import Clip


def of_values(*values: Any) -> str:
    """Of anything that JSON can write, and of what tells of itself."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Of named tensors, on any device."""
    return of_values([(name, str(t.dtype), tuple(t.shape), _checksum(t)) for name, t in tensors])


def of_modules(*modules: Any) -> str:
    """Of the weights and configurations of a model's parts; None is no part.

    So of everything that was merged into the weights too, and of their precision.
    """
    parts = [
        (_configuration(module), of_tensors(module.state_dict().items()))
        for module in modules
        if module is not None
    ]
    return of_values(parts)


def of_clip(clip: Clip, batch_size: int) -> str:
    """Of the pixels of all frames, which are read once for it, `batch_size` at a time."""
    frames = clip.batches(batch_size)
    sums = [zlib.crc32(np.ascontiguousarray(frame).data) for batch in frames for frame in batch]
    return of_values(clip.width, clip.height, sums)


def _checksum(tensor: Tensor) -> int:
    # numpy knows no bfloat16.
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return zlib.crc32(data.numpy().data)


def _configuration(module: Any) -> dict[str, Any]:
    config = module.config
    values = dict(config) if isinstance(config, dict) else config.to_dict()
    # Where it was loaded from, and by which version, changes nothing.
    return {k: v for k, v in values.items() if not k.startswith("_") and "version" not in k}
