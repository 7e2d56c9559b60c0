"""Reading of benchmarks' JSON files, which may have duplicate names."""

import json
from pathlib import Path

from pnpvideo.errors import InputError


class JsonObject(dict[str, object]):
    """A JSON object with its first values. repeated: the names that occur again."""

    repeated: tuple[str, ...] = ()


def read_text(path: Path) -> str:
    """Read a text file. Raise InputError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None


def read_json(path: Path) -> object:
    """Read a JSON file, with objects as `JsonObject`. Raise InputError if it is not JSON."""

    def keep(pairs: list[tuple[str, object]]) -> JsonObject:
        result = JsonObject()
        repeated = []
        for name, value in pairs:
            if name in result:
                repeated.append(name)
            else:
                result[name] = value
        result.repeated = tuple(repeated)
        return result

    try:
        return json.loads(read_text(path), object_pairs_hook=keep)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def read_object(path: Path) -> JsonObject:
    """Read a JSON file's object. Raise InputError if it holds something else."""
    content = read_json(path)
    if not isinstance(content, JsonObject):
        raise InputError(f"{path} does not hold a JSON object; its entries need names")
    return content


def read_list(path: Path) -> list[object]:
    """Read a JSON file's list. Raise InputError if it holds something else."""
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path} does not hold a JSON list")
    return content
