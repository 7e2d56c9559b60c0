"""Marks that other tools read in a prompt, and that are plain words here."""

import re
from collections.abc import Iterator

_WEIGHT = "a weight; --prompt-weights reads it"
_OTHER_WEIGHT = "a weight; with --prompt-weights write it as (word:1.2)"
_BREAK = "an end of what is read together; --prompt-weights reads it"
_READ = (_WEIGHT, _BREAK)
"""The meanings that are not reported if weights are read (see `prompt_weights`)."""

_MEANINGS = {
    r"<(?:lora|lyco):[^<>]+>": "a LoRA; give its file with --lora",
    r"<\w+:[^<>]+>": "a file",
    r"\bembedding:[\w.-]+": "an embedding; give its file with --embedding and say its word alone",
    r"\([^()]+\)[\d.]+|\b[A-Za-z]\w*\++(?=[\s,.)]|$)": _OTHER_WEIGHT,
    r"\([^()]*:\s*[\d.]+\s*\)|\(\([^()]+\)+|\[\[[^\[\]]+\]+": _WEIGHT,
    r"\[[^\[\]]*[:|][^\[\]]*\]": "a change over the steps",
    r"\{[^{}]*\|[^{}]*\}|__\w+__": "a choice",
    r"\bBREAK\b": _BREAK,
    r"(?<=[a-z,] )AND(?= [a-z])": "a new prompt",
}
"""By pattern: the meaning of a mark in AUTOMATIC1111's web UI, ComfyUI, compel or dynamic prompts.
Characters of one mark are not part of a later one."""
_MARK = re.compile("|".join(f"({mark})" for mark in _MEANINGS))


def foreign_marks(text: str, *, weights: bool = False) -> Iterator[str]:
    """Return a line for each kind of unread mark in a text, with the first of that kind.

    weights: weights are read, so their marks are not reported.
    """
    first: dict[str, str] = {}
    for found in _MARK.finditer(text):
        first.setdefault([*_MEANINGS.values()][(found.lastindex or 1) - 1], found[0])
    for meaning, mark in first.items():
        if weights and meaning in _READ:
            continue
        yield f"{mark!r} in the prompt is read as plain words, not as {meaning}"
