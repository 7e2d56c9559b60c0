"""Tone mapping from high dynamic range (PQ, HLG; BT.2100) to BT.709 (ITU-R BT.2390, BT.2408).

Diffuse white, 203 cd/m2 in BT.2408, becomes BT.709's white as far as highlights leave room; these
are compressed by the curve of BT.2390, 5.4, which does not change dark and middle tones.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Picture

PQ, HLG = "smpte2084", "arib-std-b67"
"""FFmpeg's names of the transfer functions of a high dynamic range."""

_WHITE = 203.0
_USUAL_PEAK = 1000.0
"""Peak in cd/m2 of HLG's display and of PQ streams that state none; brighter light is clipped."""

# BT.2087: linear BT.2020 to linear BT.709.
_TO_BT709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)
_LUMA_BT2020 = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
_CODES = np.arange(65536) / 65535


@dataclass(frozen=True, kw_only=True)
class HighRange:
    """A stream's high dynamic range. transfer: PQ or HLG. peak: its brightest light in cd/m2."""

    transfer: str
    peak: float = _USUAL_PEAK


class ToneMap:
    """A tone mapping of one stream's frames to BT.709."""

    def __init__(self, light: HighRange) -> None:
        self._is_hlg = light.transfer == HLG
        peak = min(max(light.peak, _WHITE), _USUAL_PEAK)
        linear = hlg_to_scene(_CODES) if self._is_hlg else pq_to_light(_CODES)
        self._linear = linear.astype(np.float32)
        # Table of the scale of all channels, by the square root of the brightest one / 10000 cd/m2.
        brightest = np.maximum(_CODES**2 * 10000, 1e-6)
        self._scale = (compress(brightest, peak) / brightest / _WHITE).astype(np.float32)
        # Table of the inverse of BT.1886, by the square root of the light.
        self._encode = np.rint(_CODES ** (2 / 2.4) * 255).astype(np.uint8)

    def __call__(self, frame: NDArray[np.uint16]) -> Picture:
        """Convert one RGB frame (height, width, 3) from 16-bit BT.2020 to 8-bit BT.709."""
        light = self._linear[frame]
        if self._is_hlg:  # BT.2100's OOTF: gamma 1.2 on the luminance, for 1000 cd/m2.
            luma = cv2.transform(light, _LUMA_BT2020)
            light *= (_USUAL_PEAK * np.power(luma, 0.2))[..., np.newaxis]
        brightest = light.max(axis=-1)
        index = (np.sqrt(np.minimum(brightest / 10000, 1)) * 65535).astype(np.uint16)
        light *= self._scale[index][..., np.newaxis]
        light = cv2.transform(light, _TO_BT709)
        np.clip(light, 0, 1, out=light)
        np.sqrt(light, out=light)
        light *= 65535
        frame_8: Picture = self._encode[np.rint(light, out=light).astype(np.uint16)]
        return frame_8


def compress(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Compress light from 0..peak to 0.._WHITE, all in cd/m2 (BT.2390-11, 5.4.1, black at 0)."""
    top = light_to_pq(np.array(peak))
    white = light_to_pq(np.array(_WHITE)) / top
    knee = 1.5 * white - 0.5
    code = np.minimum(light_to_pq(light) / top, 1)
    if white >= 1:
        return np.minimum(light, _WHITE)
    t = np.maximum((code - knee) / (1 - knee), 0)
    compressed = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * white
    )
    return pq_to_light(np.where(code < knee, code, compressed) * top)


# BT.2100, table 4.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def pq_to_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert PQ code values, 0 to 1, to light in cd/m2 (PQ's EOTF)."""
    root = code ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def light_to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert light in cd/m2 to PQ code values, 0 to 1."""
    root = (light / 10000) ** _M1
    return ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2


# BT.2100, table 5.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073


def hlg_to_scene(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert HLG code values, 0 to 1, to scene light, 0 to 1 (inverse OETF, BT.2100, table 5)."""
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - _C) / _A) + _B) / 12)


def scene_to_hlg(scene: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert scene light, 0 to 1, to HLG code values, 0 to 1 (OETF, BT.2100, table 5)."""
    high = _A * np.log(np.maximum(12 * scene - _B, 1e-9)) + _C
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)
