"""Weights and breaks in a prompt as A1111's web UI and ComfyUI write them."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_STEP = 1.1
"""The factor by which a pair of brackets multiplies or divides a weight."""

_LOOK_BACK = 20
"""Tokens at the end of a chunk among which a comma is looked for, to end it there."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_MARK = re.compile(
    r"\\(?P<literal>[\\()\[\]])"
    rf"|:\s*(?P<weight>{_NUMBER})\s*\)"
    r"|(?P<open>[(\[])|(?P<close>[)\]])|(?P<stop>\bBREAK\b)"
)
_PAIRS = {")": "(", "]": "["}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Words that have the same weight; words without a mark have weight 1."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Tokens that an encoder reads at once, without those for the beginning and the end."""

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


def read_weights(text: str) -> list[list[Part]]:
    """Split a text at its breaks, each into weighted parts.

    (red) counts 1.1 times, [red] 1 / 1.1 times, (red:1.3) 1.3 times; brackets within brackets
    multiply, unclosed brackets reach to the end, and \\( is a plain bracket.
    """
    texts: list[str] = []
    weights: list[float] = []
    stops: list[int] = []
    opened: list[tuple[str, int]] = []

    def say(words: str) -> None:
        texts.append(words)
        weights.append(1.0)

    def close(first: int, factor: float) -> None:
        weights[first:] = [weight * factor for weight in weights[first:]]

    end = 0
    for mark in _MARK.finditer(text):
        say(text[end : mark.start()])
        end = mark.end()
        bracket = mark["close"] or (")" if mark["weight"] else "")
        if mark["open"]:
            opened.append((mark["open"], len(texts)))
        elif mark["stop"]:
            stops.append(len(texts))
        elif bracket and opened and opened[-1][0] == _PAIRS[bracket]:
            kind, first = opened.pop()
            own = _STEP if kind == "(" else 1 / _STEP
            close(first, float(mark["weight"]) if mark["weight"] else own)
        else:
            say(mark["literal"] or mark[0])
    say(text[end:])
    for kind, first in opened:
        close(first, _STEP if kind == "(" else 1 / _STEP)
    edges = [0, *stops, len(texts)]
    return [
        list(_joined(texts[first:last], weights[first:last]))
        for first, last in itertools.pairwise(edges)
    ]


def _joined(texts: list[str], weights: list[float]) -> Iterator[Part]:
    """Yield the parts: neighbours of the same weight joined, parts without words left out."""
    words, now = "", 1.0
    for text, weight in zip(texts, weights, strict=True):
        if weight != now and text:
            if words.strip():
                yield Part(text=words, weight=now)
            words, now = "", weight
        words += text
    if words.strip():
        yield Part(text=words, weight=now)


def chunks_of(
    text: str, tokenize: Callable[[str], list[int]], size: int, comma: int
) -> list[Chunk]:
    """Cut a text's tokens into chunks of at most `size`; at least one chunk, perhaps empty.

    A chunk ends at a break, or when it is full: then after the last comma near its end, if there
    is one. comma: its token.
    """
    chunks = []
    for parts in read_weights(text):
        tokens: list[int] = []
        weights: list[float] = []
        for part in parts:
            own = tokenize(part.text)
            tokens += own
            weights += [part.weight] * len(own)
        while tokens:
            count = len(tokens)
            if count > size:
                count = size
                commas = [i for i in range(size - _LOOK_BACK, size) if i > 0 and tokens[i] == comma]
                if commas:
                    count = commas[-1] + 1
            chunks.append(Chunk(tokens=tuple(tokens[:count]), weights=tuple(weights[:count])))
            del tokens[:count], weights[:count]
    return chunks or [Chunk()]
