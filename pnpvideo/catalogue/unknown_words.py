"""Which words of a prompt a model does not know, and what it knows that is nearest to them."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import takewhile

from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.errors import InputError
from pnpvideo.options.values import EMBEDDED_MODEL

_ARTICLES = frozenset(("a", "an", "the"))
_JOINING = """
of with and or in on at by to from for into onto over under above below beside besides behind
between near next against around across along through inside outside within without upon as is are
be was were being been has have had it its this that these those there their his her my your our
which who whose while but not no made
"""
_FUNCTION_WORDS = _ARTICLES | frozenset(_JOINING.split())
"""Words that join others and show nothing themselves."""
_NOT_WORDS = re.compile(
    r"<[^<>]*>"  # LoRA, files, and words of textual inversions.
    r"|\bembedding:[\w.-]+|__\w+__"
    r"|\bBREAK\b|\bAND\b"
)
_WORD = re.compile(r"[^\W_]+")
_ALWAYS_PLURAL = frozenset(("glasses", "sunglasses", "scissors"))
"""Without their ending they mean something else, or nothing."""
_IRREGULAR = {"mice": "mouse", "geese": "goose", "men": "man", "women": "woman", "teeth": "tooth"}
_LEAST_END, _LEAST_BEGINNING, _LEAST_REST = 4, 5, 3
"""The letters of a known word at the end or the beginning of a compound word whose other part, of
so many letters, is not known. The last part says what a thing is."""
_ENDINGS = ("ing", "ent", "ion", "ity")
"""Known words with these endings are not looked for in longer ones: flowering has no ring in it."""
_SHORT, _LONG = 5, 8
"""The letters below which one other letter makes another word, as in roof and room, and from which
a word may have several mistakes."""
_ALIKE = 0.8
"""The similarity from which a long word is a mistyped one."""
_NAMED = 6
"""The most unknown words that a notice names."""


@dataclass(frozen=True, kw_only=True)
class UnknownWord:
    """A word that a model does not know. nearest: what it knows instead, the nearest first."""

    word: str
    nearest: tuple[str, ...]


def unknown_words(text: str, known: KnownWords) -> tuple[UnknownWord, ...]:
    """Return the words of a prompt that a model does not know, in their order, each once.

    Function words, numbers and the marks of weights are not words. A plural is the same as its
    singular. "cat" is unknown to a model that knows "cat face" alone.
    """
    words = _words(text)
    covered = _covered([word for word, _ in words], known)
    found: dict[str, str] = {}
    for (word, shown), is_known in zip(words, covered, strict=True):
        is_repeated = any(_is_same(word, other) for other in found)
        if not is_known and not is_repeated and word not in _FUNCTION_WORDS:
            found[word] = shown
    return tuple(
        UnknownWord(word=shown, nearest=nearest_words(word, known)) for word, shown in found.items()
    )


def nearest_words(word: str, known: KnownWords, most: int = 2) -> tuple[str, ...]:
    """Return what a model knows that is nearest to a word, the nearest first; perhaps nothing.

    First what its file names as near, then entries that contain the word, then a part of the word,
    such as fish for goldfish. A mistyped word is not taken apart, and one that only looks like a
    known word, as roof does like room, is not near to it.
    """
    word = word.lower()
    keys = sorted(known.near, key=lambda key: key != word)  # The word itself before its plural.
    for key in keys:
        if _is_same(word, key):
            return known.near[key][:most]
    texts = {text.lower(): entry.word for entry in known.entries for text in entry.texts}
    holding = [
        usual for text, usual in texts.items() if any(_is_same(word, one) for one in _plain(text))
    ]
    # A whole entry comes before a part of another: "fishh" is near "fish", not "tropical fish".
    parts = {part: usual for text, usual in texts.items() for part in _plain(text)} | texts

    long = [part for part in parts if min(len(word), len(part)) >= _LONG and part[0] == word[0]]
    near = (
        holding
        or [usual for part, usual in parts.items() if _is_mistyped(word, part)]
        or [usual for part, usual in parts.items() if word == f"{part}y"]
        or _part_of_compound(word, known)
        or [parts[one] for one in get_close_matches(word, long, n=most, cutoff=_ALIKE)]
    )
    return tuple(dict.fromkeys(near))[:most]


def _is_mistyped(word: str, part: str) -> bool:
    """Return whether one mistake makes a word of another: two letters in the wrong order, one
    doubled, or, in words that are not short, one missing, added or wrong, but not the first.
    """
    if word[:1] != part[:1]:
        return False
    same = _common(word, part)
    rest, other = word[same:], part[same:]
    end = _common(rest[::-1], other[::-1])
    rest, other = rest[: len(rest) - end], other[: len(other) - end]
    if len(rest) == 2 and rest == other[::-1]:
        return True
    is_doubled = rest + other == word[same - 1] and min(len(rest), len(other)) == 0
    is_short = min(len(word), len(part)) < _SHORT
    return max(len(rest), len(other)) == 1 and (is_doubled or not is_short)


def _common(text: str, other: str) -> int:
    """Return how many letters two texts have in common at their beginning."""
    pairs = zip(text, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _part_of_compound(word: str, known: KnownWords) -> Sequence[str]:
    """Return the thing that a compound word ends with, or else begins with; perhaps nothing.

    Either both parts are known, or the one is long enough not to be there by chance, as cat is in
    catalogue.
    """
    things = {entry.word for entry in known.entries if entry.kind == "things"}
    heads = {one: texts for one, texts in known.near.items() if texts[0] in things}
    heads |= {t.lower(): (e.word,) for e in known.entries if e.word in things for t in e.texts}
    parts = {part for entry in known.entries for text in entry.texts for part in _plain(text)}
    for form in (word, *_singulars(word)):
        cuts = range(_LEAST_REST, len(form) - _LEAST_REST + 1)
        halves = [(form[:cut], form[cut:]) for cut in cuts]
        found = [
            (end, rest, len(end) >= _LEAST_END and not end.endswith(_ENDINGS))
            for rest, end in halves
        ]
        found += [(one, rest, len(one) >= _LEAST_BEGINNING) for one, rest in reversed(halves)]
        for part, rest, is_long in found:
            if part in heads and (is_long or rest in parts or rest in known.near):
                return heads[part]
    return ()


def notice_of_unknown(texts: Iterable[str], known: KnownWords | None) -> str | None:
    """Return one line about the words of prompts that a model does not know; None if it knows all.

    known: None for a model that does not list its words, which is not asked.
    """
    if known is None:
        return None
    found = {one.word: one for text in texts for one in unknown_words(text, known)}
    if not found:
        return None
    return (
        f"the model {_does_not_know([*found.values()])}; it {known.draws}: {known.otherwise} "
        f"({words_command(known)} lists what it knows)"
    )


def check_named(text: str | None, known: KnownWords | None) -> None:
    """Raise InputError for a text that is to be found in a source, if a model knows none of it.

    text: None if nothing is to be found. known: None for a model that does not list its words.
    """
    if text is None or known is None:
        return
    unknown = {one.word.lower(): one for one in unknown_words(text, known)}
    said = [word for word, _ in _words(text) if word not in _FUNCTION_WORDS]
    if said and all(any(_is_same(word, one) for one in unknown) for word in said):
        raise InputError(
            f"the model {_does_not_know([*unknown.values()])}, so it cannot find that in the "
            f"source; name something that it knows ({words_command(known)} lists all), or give a "
            "mask"
        )


def words_command(known: KnownWords) -> str:
    """Return the command that lists what a model knows."""
    model = "" if known.model == EMBEDDED_MODEL else f" --model {shlex.quote(known.model)}"
    return f"pnpvideo words{model}"


def _does_not_know(words: Sequence[UnknownWord]) -> str:
    hints = [f" (nearest: {word.nearest[0]})" if word.nearest else "" for word in words]
    quoted = [f"{word.word!r}{hint}" for word, hint in zip(words, hints, strict=True)]
    if len(quoted) == 1:
        return f"does not know {quoted[0]}"
    if len(quoted) == 2:
        return f"knows neither {quoted[0]} nor {quoted[1]}"
    if len(quoted) > _NAMED:
        return f"does not know {', '.join(quoted[:_NAMED])} and {len(quoted) - _NAMED} more words"
    return f"does not know {', '.join(quoted[:-1])} and {quoted[-1]}"


def _words(text: str) -> list[tuple[str, str]]:
    """Return the words of a text without articles: in small letters, and as they are written."""
    found = _split(_NOT_WORDS.sub(" ", text))
    return [(word.lower(), word) for word in found if word.lower() not in _ARTICLES]


@lru_cache(maxsize=1 << 12)
def _plain(text: str) -> tuple[str, ...]:
    """Return the words of an entry, in small letters."""
    return tuple(word for word, _ in _words(text))


def _split(text: str) -> Iterator[str]:
    text = re.sub(r"(?<=\w)['\u2019](?=\w)", "", text)  # woman's is womans.
    for word in _WORD.findall(text):
        if not word.isdigit():
            yield word


def _covered(words: Sequence[str], known: KnownWords) -> list[bool]:
    """Return for each word of a text whether it belongs to a text of some entry."""
    covered = [False] * len(words)
    by_letter: dict[str, set[tuple[str, ...]]] = {}
    for entry in known.entries:
        for phrase in filter(None, map(_plain, entry.texts)):
            by_letter.setdefault(phrase[0][0], set()).add(phrase)
    for start, word in enumerate(words):
        for phrase in by_letter.get(word[0], ()):  # A plural begins as its singular does.
            stop = start + len(phrase)
            if stop <= len(words) and all(map(_is_same, words[start:stop], phrase)):
                covered[start:stop] = [True] * len(phrase)
    return covered


@lru_cache(maxsize=1 << 16)
def _is_same(word: str, other: str) -> bool:
    """Return whether two words are the same, but for being one or many."""
    return word == other or word in _singulars(other) or other in _singulars(word)


def _singulars(word: str) -> frozenset[str]:
    """Return what a word may be the plural of: foxes of foxe and fox."""
    if word in _IRREGULAR:
        return frozenset((_IRREGULAR[word],))
    if word in _ALWAYS_PLURAL or len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return frozenset()
    found = {word[:-1]}
    if word.endswith("es"):
        found.add(word[:-2])
    if word.endswith("ies"):
        found.add(f"{word[:-3]}y")
    if word.endswith("ves"):
        found |= {f"{word[:-3]}f", f"{word[:-3]}fe"}
    return frozenset(found)
