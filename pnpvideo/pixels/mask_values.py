"""The meaning of a mask's values: which of them are edited.

A mask may hold brightness (white is edited, black is not), any two values (0 and 1, two colours),
or labels: indices of a palette, colours or whole numbers, of which 0, or black, is the background.
Transparent pixels are never edited.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.clip import Alpha, Clip, FrameReader, Frames, Picture
from pnpvideo.clips.stored import Stored
from pnpvideo.errors import InputError

_log = logging.getLogger(__name__)

NEAR_BLACK, NEAR_WHITE = 32, 223
"""Brightness up to the first is black, and from the second on white: lossy formats are inexact."""

# More colours than a palette has: a lossy format has changed them.
_LOSSY = 256
# Channels of a grey pixel differ by at most this much in a lossy format.
_GREY_SPREAD = 24
_SHOWN = 6
"""The number of labels that a message names."""

Keys = NDArray[np.generic]
"""Values as single numbers: a colour is red * 65536 + green * 256 + blue."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values that occur in a mask, in all of its frames.

    form: what the keys are. keys: those of visible pixels, ascending. colours: of each key,
    (count, 3), 0 to 255. clear: whether some pixels are transparent.
    """

    form: "_Form"
    keys: Keys
    colours: NDArray[np.float64]
    clear: bool

    @property
    def brightness(self) -> NDArray[np.float64]:
        return np.asarray(self.colours @ np.array([0.299, 0.587, 0.114]))

    @property
    def is_brightness(self) -> bool:
        """Whether the values may be brightness: all are grey, and no two are the same grey."""
        spread = _GREY_SPREAD if len(self.keys) > _LOSSY else 0
        is_grey = bool((np.ptp(self.colours, axis=1) <= spread).all())
        distinct = self.form.kind == "colours" or len(np.unique(self.brightness)) == len(self.keys)
        return is_grey and distinct and not self.form.is_label

    def text(self) -> str:
        """Return the names of the values, at most six of them."""
        if self.form.kind == "colours":
            texts = [_colour_of(key) for key in self.keys[: _SHOWN + 1].tolist()]
        else:
            texts = [f"{key:g}" for key in self.keys[: _SHOWN + 1].tolist()]
        more = ["..."] if len(texts) > _SHOWN else []
        return ", ".join(texts[:_SHOWN] + more)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The values of a mask that are edited.

    edited: their keys; None: the values are brightness. edits_all: whether there are no others.
    notice: what a user should know, as the rest of a sentence that begins "the mask"; empty if the
    meaning is plain.
    """

    edited: Keys | None
    edits_all: bool = False
    notice: str = ""


def white_and_black(mask: Clip, labels: Sequence[str] = ()) -> Clip:
    """Return a mask as white and black, or as the brightness that it has.

    labels: those that are edited, as numbers or colours. Log what the values mean, unless that is
    plain. InputError if a label does not occur, or if all would be edited.
    """
    read, meaning = read_values(mask, labels)
    if meaning.edits_all:
        raise InputError(f"the mask {mask.name} {meaning.notice}")
    if meaning.notice:
        _log.warning("the mask %s %s", mask.name, meaning.notice)
    return read


def read_values(mask: Clip, labels: Sequence[str] = ()) -> tuple[Clip, Meaning]:
    """Return a mask as `white_and_black` does, and what its values mean."""
    values = _values_in(mask)
    meaning = _chosen(values, labels) if labels else _meaning_of(values)
    if meaning.edited is None and not mask.has_alpha:
        return mask, meaning
    return replace(mask, reader=_MaskReader(mask, values.form, meaning.edited)), meaning


def ones_as_white(image: Clip) -> Clip:
    """Return pictures as they are, but those of 0 and 1 alone as black and white."""
    for number in range(len(image)):
        values = image.read_stored(number).values
        if values.dtype.kind == "f" or values.max(initial=0) > 1:
            return image
    found = _values_in(image)
    edited = found.keys[found.keys.astype(np.float64) > 0]
    return replace(image, reader=_MaskReader(image, found.form, edited))


class _MaskReader(FrameReader):
    """A reader of a mask's frames as white, where they are edited, and black."""

    def __init__(self, mask: Clip, form: "_Form", edited: Keys | None) -> None:
        self._mask, self._form, self._edited = mask, form, edited

    def __len__(self) -> int:
        return len(self._mask)

    def read(self, start: int, stop: int) -> Frames:
        return np.stack([self._frame(number) for number in range(start, stop)])

    def _frame(self, number: int) -> Picture:
        stored = self._mask.read_stored(number)
        if self._edited is None:
            frame = stored.pixels()
        else:
            white = np.isin(self._form.keys(stored), self._edited)
            frame = np.repeat((white * np.uint8(255))[..., np.newaxis], 3, axis=-1)
        if stored.alpha is None:
            return frame
        # Rounded as Pillow does.
        laid = frame.astype(np.uint32) * stored.alpha[..., np.newaxis] + 128
        return ((laid + (laid >> 8)) >> 8).astype(np.uint8)

    def read_alpha(self, start: int, stop: int) -> Alpha:
        return self._mask.read_alpha(start, stop)

    def close(self) -> None:
        self._mask.close()


# What the values are


@dataclass(frozen=True, kw_only=True)
class _Form:
    """The kind of the values of all frames, so that they can be compared.

    kind: "numbers", of one type; "indices" of one palette; or "colours". is_label: whether numbers
    are labels for certain.
    """

    kind: str
    dtype: str = ""
    palette: bytes = b""
    is_label: bool = False

    @classmethod
    def of(cls, stored: Stored) -> "_Form":
        if stored.palette is not None:
            return cls(kind="indices", palette=stored.palette.tobytes())
        if stored.values.ndim == 3:
            return _COLOURS
        return cls(kind="numbers", dtype=stored.values.dtype.str, is_label=stored.is_label)

    def keys(self, stored: Stored) -> Keys:
        """Return a frame's values as keys, (height, width)."""
        if self.kind != "colours":
            return stored.values.view(np.uint8) if stored.values.dtype == bool else stored.values
        red, green, blue = np.moveaxis(stored.pixels().astype(np.uint32), -1, 0)
        packed: Keys = red << 16 | green << 8 | blue
        return packed

    def colours(self, keys: Keys) -> NDArray[np.float64]:
        """Return the colour of each key, 0 to 255; of numbers their brightness, not rounded."""
        if self.kind == "indices":
            palette = np.frombuffer(self.palette, np.uint8).reshape(-1, 3)
            return palette[keys.astype(np.intp)].astype(np.float64)
        if self.kind == "colours":
            packed = keys.astype(np.int64)
            channels = [packed >> 16, packed >> 8 & 255, packed & 255]
            return np.stack(channels, axis=-1).astype(np.float64)
        fixed = {"|b1": 1, "|u1": 255, "<u2": 65535}
        white = fixed[self.dtype] if self.dtype in fixed else _white_of(keys)
        return np.repeat(keys.astype(np.float64)[:, np.newaxis] * 255 / white, 3, axis=1)


_COLOURS = _Form(kind="colours")


def _values_in(mask: Clip) -> Values:
    form = _Form.of(mask.read_stored(0))
    found = _find_values(mask, form)
    if found is None:
        found = _find_values(mask, _COLOURS)
    assert found is not None
    return found


def _find_values(mask: Clip, form: _Form) -> Values | None:
    """Return the values of all frames; None if they are not of this form."""
    seen, clear = _Seen(), False
    for number in range(len(mask)):
        stored = mask.read_stored(number)
        if form != _COLOURS and _Form.of(stored) != form:
            return None
        keys = form.keys(stored)
        if stored.alpha is not None:
            clear = clear or bool((stored.alpha < 255).any())
            keys = keys[stored.alpha > 0]
        seen.add(keys)
    keys = seen.keys()
    return Values(form=form, keys=keys, colours=form.colours(keys), clear=clear)


class _Seen:
    """The set of all values that were added. A table is faster than sorting large frames."""

    def __init__(self) -> None:
        self._table = np.zeros(0, bool)
        self._others: Keys = np.zeros(0)

    def add(self, keys: Keys) -> None:
        if keys.dtype.kind == "u" and keys.dtype.itemsize < 8 and keys.max(initial=0) < 2**24:
            if len(self._table) <= (top := int(keys.max(initial=0))):
                grown = np.zeros(1 << top.bit_length(), bool)
                grown[: len(self._table)] = self._table
                self._table = grown
            self._table[keys] = True
        else:
            self._others = np.union1d(self._others, keys)

    def keys(self) -> Keys:
        common: Keys = np.flatnonzero(self._table)
        return np.union1d(common, self._others) if len(self._others) else common


def _white_of(values: NDArray[np.generic]) -> float:
    """Return the number that is white: the type's, or the one that the values make likely."""
    top = float(values.max(initial=0))
    if values.dtype.kind == "f":
        return 1 if top <= 2 else 255
    return next(white for white in (255, 65535, 2**31 - 1, 2**64) if top <= white)


# What they mean


def _meaning_of(values: Values) -> Meaning:
    keys, brightness = values.keys, values.brightness
    if not values.is_brightness:
        return _labels(values)
    if len(keys) == 1 and values.clear and brightness[0] > 0:
        return Meaning(edited=keys)
    if len(keys) == 2:
        plain = brightness.min() <= NEAR_BLACK and brightness.max() >= NEAR_WHITE
        return Meaning(edited=None if plain else keys[[brightness.argmax()]])
    top = float(brightness.max(initial=0))
    if len(keys) > 2 and _are_counted(values, top):
        return _labels(values)
    if len(keys) < 2 or not NEAR_BLACK < top < NEAR_WHITE:
        return Meaning(edited=None)
    most = (top - NEAR_BLACK) / (NEAR_WHITE - NEAR_BLACK)
    return Meaning(
        edited=None,
        notice=f"is nowhere white: its brightest value is {top:.0f} of 255, so at most {most:.0%} "
        "of the edit is seen; if its values are labels, choose them with mask_label",
    )


def _are_counted(values: Values, top: float) -> bool:
    """Return whether grey values are small whole numbers, which would all be black."""
    if values.form.kind == "colours" and len(values.keys) > NEAR_BLACK:
        return False
    whole = values.keys.dtype.kind != "f" or bool((np.mod(values.keys, 1) == 0).all())
    small = values.form.kind == "numbers" and float(values.keys[-1]) <= NEAR_BLACK
    return whole and (small or top <= NEAR_BLACK)


def _labels(values: Values) -> Meaning:
    """Return the meaning of a map of labels: all but the background are edited."""
    keys = values.keys
    rest = _background(values)
    edited = keys[~rest]
    count = len(edited)
    if not rest.any() and not values.clear:
        return Meaning(
            edited=edited,
            edits_all=True,
            notice=f"has no label 0 and no black, so all would be edited; choose some of its "
            f"labels ({values.text()}) with mask_label",
        )
    if count < 2:
        return Meaning(edited=edited)
    left = "all" if values.clear and not rest.any() else "all but 0"
    if values.form.kind == "colours" and rest.any():
        left = "all but black"
    return Meaning(
        edited=edited,
        notice=f"is read as a map of labels ({values.text()}): {left} are edited; mask_label "
        "chooses some",
    )


def _background(values: Values) -> NDArray[np.bool_]:
    """Return which keys are not edited."""
    keys, highest = values.keys, values.colours.max(axis=1, initial=0)
    lossy = values.form.kind == "colours" and len(keys) > _LOSSY
    black: NDArray[np.bool_] = highest <= (NEAR_BLACK if lossy else 0)
    zero: NDArray[np.bool_] = keys.astype(np.float64) <= 0
    # A palette's order may be any that a program chose: black is surer than 0.
    by_number = values.form.kind != "indices" or not black.any() or black[zero].any()
    rest = zero if by_number and not lossy else black
    if not rest.any() and not values.clear and len(keys) == 2:
        rest = np.arange(2) == values.brightness.argmin()
    return rest


def _chosen(values: Values, labels: Sequence[str]) -> Meaning:
    """Return the meaning of a mask whose edited labels are given."""
    edited = np.zeros(len(values.keys), bool)
    for label in labels:
        found = _named(values, label)
        if not found.any():
            raise InputError(f"mask_label is {label}, and the mask has only {values.text()}")
        edited |= found
    return Meaning(edited=values.keys[edited])


def _named(values: Values, label: str) -> NDArray[np.bool_]:
    """Return which keys a label names."""
    if label.startswith("#"):
        colour = np.array(list(bytes.fromhex(label[1:])), np.float64)
        return np.asarray((values.colours == colour).all(axis=1))
    number = int(label)
    if values.form.kind == "colours":
        number *= 0x010101  # A grey.
    return np.asarray(values.keys == number)


def _colour_of(key: int) -> str:
    return f"#{key:06x}"
