"""Marks that other tools read in a prompt, and that are plain words here."""

import re
from collections.abc import Iterator

_MEANINGS = {
    r"<(?:lora|lyco):[^<>]+>": "a LoRA; give its file with --lora",
    r"<\w+:[^<>]+>": "a file",
    r"\bembedding:[\w.-]+": "an embedding; give its file with --embedding and say its word alone",
    r"\([^()]*:\s*[\d.]+\s*\)|\([^()]+\)[\d.]+|\b[A-Za-z]\w*\++(?=[\s,.)]|$)": "a weight",
    r"\(\([^()]+\)+|\[\[[^\[\]]+\]+": "a weight",
    r"\[[^\[\]]*[:|][^\[\]]*\]": "a change over the steps",
    r"\{[^{}]*\|[^{}]*\}|__\w+__": "a choice",
    r"\bBREAK\b|(?<=[a-z,] )AND(?= [a-z])": "a new prompt",
}
"""What AUTOMATIC1111's web UI, ComfyUI, compel and dynamic prompts take them for. What is part of
one mark is not part of a later one."""
_MARK = re.compile("|".join(f"({mark})" for mark in _MEANINGS))


def foreign_marks(text: str) -> Iterator[str]:
    """A line for each kind of mark in a text, with the first of that kind."""
    first: dict[str, str] = {}
    for found in _MARK.finditer(text):
        first.setdefault([*_MEANINGS.values()][(found.lastindex or 1) - 1], found[0])
    for meaning, mark in first.items():
        yield f"{mark!r} in the prompt is read as plain words, not as {meaning}"
