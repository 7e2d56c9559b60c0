"""Ways to damage a file. One of them needs pieces of another file."""

from collections.abc import Callable
from random import Random

# The first bytes of most formats, which state sizes.
_HEAD = 600
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(content: bytes, other: bytes, random: Random) -> tuple[bytes, str]:
    """Return damaged content and a description of the damage. other: a file to take pieces from."""
    name, change = random.choice(_WAYS)
    return change(bytearray(content), other, random), name


def mutate_text(content: bytes, other: bytes, random: Random) -> tuple[bytes, str]:
    """Return a damaged text and a description of the damage.

    Half of the time, words are put in that readers of texts stumble over.
    """
    if random.random() < 0.5:
        return mutate(content, other, random)
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        begin, end = _span(changed, random)
        cut = random.choice((begin, begin, min(end, begin + 8)))
        changed[begin:cut] = random.choice(_WORDS)
    return bytes(changed), "words put in"


_WORDS = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b'"', b"'", b"\\", b",", b";", b":"),
    *(b"[" * 5000, b"{" * 5000, b"- " * 5000, b"&a ", b"*a", b"<<: *a", b"!!python/object ", b"? "),
    *(b"9" * 5000, b"-1", b"1e999", b".nan", b"NaN", b"null", b"true", b"0x" + b"f" * 400, b"1_0"),
    *(b"%099999999999d", b"**", b"../x", b"~", b"-", b"|\n", b"2026-99-99", b"2026-01-01", b"=1+1"),
    *("\u2028\u0085\ud7ff\u202e".encode(), b"\\ud800", b"\x1b[31m", b"sep=;\n", b"\xff\xfe"),
)


def _flip(content: bytearray, other: bytes, random: Random) -> bytes:
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(content)


def _flip_head(content: bytearray, other: bytes, random: Random) -> bytes:
    for _ in range(random.choice((1, 2, 4))):
        content[random.randrange(min(len(content), _HEAD))] ^= 1 << random.randrange(8)
    return bytes(content)


def _cut(content: bytearray, other: bytes, random: Random) -> bytes:
    return bytes(content[: random.randrange(1, len(content))])


def _cut_out(content: bytearray, other: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    del content[begin:end]
    return bytes(content) or b"\0"


def _repeat(content: bytearray, other: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    content[end:end] = content[begin:end]
    return bytes(content)


def _blank(content: bytearray, other: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    content[begin:end] = random.choice((b"\0", b"\xff")) * (end - begin)
    return bytes(content)


def _noise(content: bytearray, other: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    content[begin:end] = random.randbytes(end - begin)
    return bytes(content)


def _extreme(content: bytearray, other: bytes, random: Random) -> bytes:
    size = random.choice((1, 2, 4))
    value = random.choice([extreme for extreme in _EXTREMES if extreme < 1 << 8 * size])
    end = random.choice((_HEAD, len(content)))
    at = random.randrange(max(1, min(end, len(content)) - size))
    content[at : at + size] = value.to_bytes(size, random.choice(("little", "big")))
    return bytes(content)


def _splice(content: bytearray, other: bytes, random: Random) -> bytes:
    begin = random.randrange(len(other))
    piece = other[begin : begin + random.randrange(1, 2000)]
    at = random.randrange(len(content))
    content[at : at + len(piece)] = piece
    return bytes(content)


def _span(content: bytearray, random: Random) -> tuple[int, int]:
    begin = random.randrange(len(content))
    return begin, min(begin + random.choice((1, 4, 32, 256, 2000)), len(content))


_WAYS: tuple[tuple[str, Callable[[bytearray, bytes, Random], bytes]], ...] = (
    ("bits flipped", _flip),
    ("bits flipped", _flip),
    ("bits of the head flipped", _flip_head),
    ("cut off", _cut),
    ("cut off", _cut),
    ("a piece cut out", _cut_out),
    ("a piece repeated", _repeat),
    ("a piece blanked", _blank),
    ("a piece made noise", _noise),
    ("a number made extreme", _extreme),
    ("a piece of another file", _splice),
)
