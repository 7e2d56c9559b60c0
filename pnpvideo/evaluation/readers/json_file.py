"""Reading of benchmarks' JSON files, which may have duplicate names."""

from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.files.read_text import JsonObject, parse_json, read_text


def read_object(path: Path) -> JsonObject:
    """Read a JSON file's object. Raise InputError if it holds something else."""
    content = parse_json(read_text(path), path)
    if not isinstance(content, JsonObject):
        raise InputError(f"{path} does not hold a JSON object; its entries need names")
    return content


def read_list(path: Path) -> list[object]:
    """Read a JSON file's list. Raise InputError if it holds something else."""
    content = parse_json(read_text(path), path)
    if not isinstance(content, list):
        raise InputError(f"{path} does not hold a JSON list")
    return content
