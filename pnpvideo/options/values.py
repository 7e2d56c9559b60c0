"""Types and defaults of single options: how a value is written, read and checked."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_extra_types.color import Color

from pnpvideo.options.paths import plain_text

_HUGE_EXPONENT = re.compile(r"e[+-]?\d{3}", re.IGNORECASE)

Place = Literal["auto", "memory", "disk"]
Precision = Literal["half", "full"]
HighRangeTreatment = Literal["map", "keep"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Dtype = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["fp8", "int8", "nf4"]
"""The format in which the weights of a transformer are kept."""
Reader = Literal["decord", "av"]
"""The library that reads plain local videos; PyAV reads all others."""
Tracks = Literal["default", "all", "none"]
"""The sound tracks of the source that the result gets."""

# Half precision costs nothing that can be seen: for six scenes of the embedded model's world, 15
# steps, the results are within 70 to 75 dB (PSNR) of those with float32, and as near to the true
# pictures to 0.001 dB (bfloat16: 61 to 68 dB, and 0.004 dB).
DEFAULT_PRECISION: Precision = "half"
DEFAULT_PLACE: Place = "auto"


EMBEDDED_MODEL = "embedded"
"""The name of the model that comes with the package, the default."""
DEFAULT_QUALITY = 80
DEFAULT_READER: Reader = "decord"
DEFAULT_TRACKS: Tracks = "default"
DEFAULT_MAX_PIXELS = 250_000_000
DEFAULT_MAX_FRAMES = 1_000_000
DEFAULT_FRAME_RATE = Fraction(24)
"""Frames per second of a video or animation made from frames that have no timing."""
MEMORY_SHARE = 0.25
"""Share of the free memory that a trajectory may take; a larger one goes to disk."""

_WHOLE = re.compile(r"-?\d+")


def _size(given: object) -> tuple[int, int]:
    """Return (640, 384) for "640x384" or [640, 384]."""
    if isinstance(given, str):
        width, _, height = given.lower().partition("x")
        return int(width), int(height)
    if isinstance(given, list | tuple) and [type(side) for side in given] == [int, int]:
        return given[0], given[1]
    raise ValueError


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _frame_rate(given: object) -> Fraction:
    """Return an exact number of frames per second for "24", 23.976 or "24000/1001"."""
    text = str(given)
    if len(text) > 40 or _HUGE_EXPONENT.search(text):  # It would take hours and the whole memory.
        raise ValueError
    try:
        rate = Fraction(text)
    except ZeroDivisionError:
        raise ValueError from None
    if not 0 < rate <= 1000:
        raise ValueError
    return rate


def _colour(given: object) -> tuple[int, int, int]:
    """Return (255, 128, 0) for a name, "#ff8000", "rgb(255, 128, 0)" or [255, 128, 0]."""
    if isinstance(given, list | tuple):
        if [type(part) for part in given] != [int, int, int]:
            raise ValueError
        given = tuple(given)
    elif not isinstance(given, str):
        raise ValueError
    parts = Color(given).as_rgb_tuple()
    if len(parts) == 4:  # Nothing could show through a background.
        raise ValueError
    return parts


def _colour_text(colour: tuple[int, int, int]) -> str:
    return f"#{bytes(colour).hex()}"


def plain_number(given: object) -> object:
    """Return a number of numpy or torch, or those in a list or tuple, as Python's own number."""
    if isinstance(given, list | tuple):
        numbers = map(_plain, given)
        return list(numbers) if isinstance(given, list) else tuple(numbers)
    return _plain(given)


def _plain(given: object) -> object:
    # By its methods, so that options need not import numpy and torch.
    if getattr(given, "ndim", None) == 0 and hasattr(given, "dtype") and hasattr(given, "item"):
        return given.item()
    return given


def _labels(given: object) -> object:
    """Return numbers and colours, one or several, as texts: ("3", "#800000")."""
    many = given if isinstance(given, list | tuple) else [given]
    return tuple(_label(one) for one in many)


def _label(given: object) -> str:
    text = str(given).strip()
    if type(given) not in (int, str):
        raise ValueError
    return str(int(text)) if _WHOLE.fullmatch(text) else _colour_text(_colour(text))


def _texts(given: object) -> object:
    """Return one text or a list of texts as a tuple."""
    if isinstance(given, str | Path):
        return (str(given),)
    return tuple(map(plain_text, given)) if isinstance(given, list | tuple) else given


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
PathTexts = Annotated[Texts, Field(json_schema_extra={"format": "path"})]
MaskLabels = Annotated[
    tuple[str, ...],
    BeforeValidator(_labels),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string"},
            "default": [],
            "form": "whole numbers or colours, such as 2 or #800000",
            "metavar": "LABEL",
        }
    ),
]
"""Labels of a mask: "3" or "#800000"."""
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Size = Annotated[
    tuple[int, int],
    PlainValidator(_size),
    PlainSerializer(_size_text, when_used="json"),
    WithJsonSchema({"type": "string", "form": "WIDTHxHEIGHT, such as 640x384", "metavar": "WxH"}),
]
Colour = Annotated[
    tuple[int, int, int],
    PlainValidator(_colour),
    PlainSerializer(_colour_text, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "form": "a colour, such as white, #ff8000 or rgb(255, 128, 0)",
            "metavar": "COLOUR",
        }
    ),
]
"""Red, green and blue, 0 to 255."""
FrameRate = Annotated[
    Fraction,
    PlainValidator(_frame_rate),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "form": "frames per second above 0 and up to 1000, such as 12 or 24000/1001",
            "metavar": "RATE",
        }
    ),
]
