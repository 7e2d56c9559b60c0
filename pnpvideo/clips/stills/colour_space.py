"""The colour space of a picture: as its file states it (CICP, nclx, ICC), and as sRGB.

CICP's numbers of primaries and transfer functions are those of ITU-T H.273, tables 2 and 3.
"""

import contextlib
import io
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pnpvideo.clips.clip import Colour, Picture
from pnpvideo.clips.video.tone_map import (
    HLG,
    PQ,
    HighRange,
    ToneMap,
    hlg_to_scene,
    light_to_pq,
    pq_to_light,
    scene_to_hlg,
)

Matrix = NDArray[np.float64]

CICP = "cicp"
"""The name in a picture's `info` of what `find_cicp` finds."""

_SRGB, _BT2020 = 1, 9
_UNSTATED, _LINEAR, _PQ, _HLG = 2, 8, 16, 18

# x and y of red, green, blue and white.
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, 0.310, 0.316),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    10: (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
_NAMES = {
    **{1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 11: "smpte431", 12: "smpte432"},
    **{_PQ: PQ, _HLG: HLG},
}
"""FFmpeg's names of primaries and of transfer functions, which share no number here."""

_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.96422, 1.0, 0.82521])


@dataclass(frozen=True, kw_only=True)
class Space:
    """A colour space. to_xyz: from linear RGB to XYZ of D50. transfer: CICP's number.

    primaries: CICP's number of the nearest ones that have a name.
    """

    to_xyz: Matrix
    transfer: int
    primaries: int = _BT2020

    @classmethod
    def of(cls, primaries: int, transfer: int) -> "Space":
        """Return the space of CICP's numbers; other primaries are taken for the usual ones."""
        default = _BT2020 if transfer in (_PQ, _HLG) else _SRGB
        known = primaries if primaries in _PRIMARIES else default
        return cls(to_xyz=_to_xyz(known), transfer=transfer, primaries=known)

    @property
    def high_range(self) -> str | None:
        """FFmpeg's name of a transfer function of a high dynamic range; None for others."""
        return {_PQ: PQ, _HLG: HLG}.get(self.transfer)

    @property
    def needs_depth(self) -> bool:
        """Whether 8 bits a channel are not enough."""
        return self.transfer in (_LINEAR, _PQ, _HLG)

    @property
    def colour(self) -> Colour:
        """The tags of a video whose colours stay in this space."""
        primaries = _NAMES.get(self.primaries, "bt709")
        return Colour(primaries=primaries, transfer=self.high_range or "bt709")


Cicp = tuple[int, int, bool]
"""Primaries, transfer function, and whether they take precedence over a profile."""


def find_cicp(image: Image.Image, file: Path | io.BytesIO) -> Cicp | None:
    """Return what the file of an opened picture states of its colours by CICP's numbers."""
    if image.format == "PNG":
        with file.open("rb") if isinstance(file, Path) else io.BytesIO(file.getvalue()) as opened:
            return _png_cicp(opened)
    found = image.info.get("nclx_profile")
    if image.format == "AVIF":
        # A damaged file is reported where it is decoded.
        with contextlib.suppress(OSError, ValueError, RuntimeError, EOFError, SyntaxError):
            found = pillow_heif.open_heif(file).info.get("nclx_profile")
    if found is None:
        return None
    return found["color_primaries"], found["transfer_characteristics"], False


def _png_cicp(file: io.BufferedIOBase) -> Cicp | None:
    """Return what the cICP chunk of a PNG says (third edition, section 11.3.2.6)."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name == b"cICP" and size == 4 and len(body := file.read(4)) == 4:
            return body[0], body[1], True
        if name in (b"IDAT", b"IEND"):
            return None
        file.seek(size + 4, io.SEEK_CUR)
    return None


def stated_space(image: Image.Image) -> Space | None:
    """Return the space of an opened picture if its values have to be converted by it.

    In most formats an ICC profile decides, and `profile_to_srgb` converts by it. In a PNG, CICP's
    numbers decide, and in all formats those of a high dynamic range, which older readers of
    profiles do not know.
    """
    numbers, profile = image.info.get(CICP), image.info.get("icc_profile")
    if numbers is not None and numbers[:2] != (_UNSTATED, _UNSTATED):
        primaries, transfer, decides = numbers
        if decides or not profile or transfer in (_PQ, _HLG):
            return Space.of(primaries, transfer)
    return _high_range_of_profile(profile) if profile else None


def is_srgb(space: Space) -> bool:
    """Return whether values in a space are those of sRGB.

    As on screens, the transfer functions of standard video (BT.709 and others) count as sRGB's.
    """
    plain = space.transfer not in (_LINEAR, _PQ, _HLG, 4, 5, 17)
    return plain and space.primaries == _SRGB and np.allclose(space.to_xyz, _to_xyz(_SRGB))


def to_srgb(pixels: NDArray[np.uint8] | NDArray[np.uint16], space: Space) -> Picture:
    """Convert a picture (height, width, 3) to sRGB; a high dynamic range is tone-mapped."""
    if space.high_range is not None:
        deep = pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)
        return _tone_map(space.high_range)(_to_bt2020(deep.astype(np.uint16), space))
    codes = np.arange(np.iinfo(pixels.dtype).max + 1) / np.iinfo(pixels.dtype).max
    linear = _to_linear(codes, space.transfer).astype(np.float32)[pixels]
    matrix = np.linalg.inv(_to_xyz(_SRGB)) @ space.to_xyz
    light = np.clip(linear @ matrix.T.astype(np.float32), 0, 1)
    return np.take(_encoded(), np.rint(light * 65535).astype(np.uint16))


def _to_bt2020(pixels: NDArray[np.uint16], space: Space) -> NDArray[np.uint16]:
    """Convert codes of PQ or HLG to the same of BT.2020's primaries."""
    matrix = np.linalg.inv(_to_xyz(_BT2020)) @ space.to_xyz
    if np.allclose(matrix, np.eye(3), atol=1e-3):
        return pixels
    to_light, to_code = (
        (pq_to_light, light_to_pq) if space.transfer == _PQ else (hlg_to_scene, scene_to_hlg)
    )
    table = to_light(np.arange(65536) / 65535)
    light = np.maximum(table[pixels] @ matrix.T, 0)
    return np.rint(np.clip(to_code(light), 0, 1) * 65535).astype(np.uint16)


@cache
def _tone_map(transfer: str) -> ToneMap:
    return ToneMap(HighRange(transfer=transfer))


@cache
def _encoded() -> NDArray[np.uint8]:
    """Return sRGB's codes of light (IEC 61966-2-1), a table of 65536."""
    light = np.arange(65536) / 65535
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(code * 255).astype(np.uint8)
    return table


def _to_linear(codes: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """Return light of codes, both 0 to 1, by H.273, table 3."""
    if transfer == _LINEAR:
        return codes
    if transfer in (4, 5):
        return codes ** (2.2 if transfer == 4 else 2.8)
    if transfer == 17:  # SMPTE ST 428-1.
        return np.minimum(codes**2.6 * 52.37 / 48, 1)
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


@cache
def _to_xyz(primaries: int) -> Matrix:
    """Return the matrix from linear RGB to XYZ, adapted to D50 (Bradford)."""
    places = np.array(_PRIMARIES[primaries]).reshape(4, 2)
    xyz = np.column_stack([places, 1 - places.sum(1)]).T
    white = xyz[:, 3] / xyz[1, 3]
    matrix = xyz[:, :3] * np.linalg.solve(xyz[:, :3], white)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: Matrix = np.linalg.inv(_BRADFORD) @ (cones[:, np.newaxis] * _BRADFORD) @ matrix
    return adapted


# ICC profiles


def profile_to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert a picture to sRGB by its ICC profile; None for one that is broken or does not fit."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            grey = _by_profile(Image.new("RGB", (1, 1), (128, 128, 128)), source)
            # A linear profile of sRGB's primaries has that name, too.
            if grey is None or abs(np.asarray(grey).astype(int) - 128).max() <= 16:
                return image
        return _by_profile(image, source)
    return None


def _by_profile(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image | None:
    return ImageCms.profileToProfile(
        image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )


def _high_range_of_profile(profile: bytes) -> Space | None:
    """Return the space of an ICC profile of PQ or HLG; None for others.

    The profile's cicp tag says so (ICC.1:2022, 9.2.17), or its curve does.
    """
    tags = _tags(profile)
    stated = tags.get(b"cicp", b"")
    if len(stated) >= 10 and stated[9] in (_PQ, _HLG):
        return Space.of(stated[8], stated[9])
    curve = _curve(tags.get(b"rTRC", b""))
    columns = [_xyz(tags.get(name, b"")) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    if curve is None or any(column is None for column in columns):
        return None
    places = np.array([0.3, 0.5, 0.75, 0.9])
    light = np.interp(places, np.linspace(0, 1, len(curve)), curve)
    scene = hlg_to_scene(places)
    for transfer, wanted in ((_PQ, pq_to_light(places) / 10000), (_HLG, scene), (_HLG, scene**1.2)):
        if np.allclose(light, wanted, rtol=0.1):
            return Space(to_xyz=np.column_stack(columns), transfer=transfer)  # type: ignore[arg-type]
    return None


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the tags of an ICC profile, as far as it is whole (ICC.1:2022, 7.3)."""
    if len(profile) < 132:
        return {}
    found = {}
    for number in range(min(int.from_bytes(profile[128:132], "big"), 100)):
        entry = profile[132 + 12 * number : 144 + 12 * number]
        if len(entry) == 12:
            name, at, size = struct.unpack(">4sII", entry)
            found[name] = profile[at : at + size]
    return found


def _curve(tag: bytes) -> NDArray[np.float64] | None:
    """Return the samples of a sampled curve, 0 to 1."""
    if tag[:4] != b"curv" or len(tag) < 12:
        return None
    count = int.from_bytes(tag[8:12], "big")
    if count < 16 or len(tag) < 12 + 2 * count:
        return None
    return np.frombuffer(tag, ">u2", count, 12) / 65535


def _xyz(tag: bytes) -> NDArray[np.float64] | None:
    if tag[:4] != b"XYZ " or len(tag) < 20:
        return None
    return np.frombuffer(tag, ">i4", 3, 8) / 65536
