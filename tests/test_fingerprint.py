"""Fingerprints tell content apart, and nothing else."""

import numpy as np
import torch
from clips import smooth_frames
from diffusers import UNet2DConditionModel
from models import tiny_unet

from pnpvideo.clips.clip import Frames, clip_of_frames
from pnpvideo.storage import fingerprint


def of_clip(frames: Frames, batch_size: int = 2) -> str:
    clip = clip_of_frames(frames)
    result = fingerprint.ClipFingerprint(clip)
    for batch in clip.batches(batch_size):
        result.add(batch)
    return str(result)


def test_a_clip_is_known_by_its_pixels() -> None:
    frames = smooth_frames(5)
    known = of_clip(frames)
    assert of_clip(frames.copy(), 3) == known
    assert of_clip(frames[::-1].copy()) != known
    assert of_clip(frames[:4]) != known
    frames[3, 4, 5, 1] ^= 1
    assert of_clip(frames) != known


def test_a_model_is_known_by_its_weights_and_configuration() -> None:
    unet: UNet2DConditionModel = tiny_unet()
    known = fingerprint.of_modules(unet, None)
    assert fingerprint.of_modules(unet) == known
    assert fingerprint.of_modules(unet, unet) != known
    with torch.no_grad():
        unet.conv_in.bias[3] += 1
    assert fingerprint.of_modules(unet) != known
    with torch.no_grad():
        unet.conv_in.bias[3] -= 1
    assert fingerprint.of_modules(unet.to(torch.bfloat16)) != known


def test_values_are_known_by_kind_and_order() -> None:
    assert fingerprint.of_values(["a", "b"]) != fingerprint.of_values(["b", "a"])
    assert fingerprint.of_values({"a": 1, "b": 2}) == fingerprint.of_values({"b": 2, "a": 1})
    assert fingerprint.of_values(np.array([1])) != fingerprint.of_values(np.array([2]))
