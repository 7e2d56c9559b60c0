"""JSON files of benchmarks, as their authors wrote them."""

import json
from pathlib import Path

from pnpvideo.errors import InputError


class Repeats(dict[str, object]):
    """An object of JSON. repeated: the later values of names that come more than once in it."""

    repeated: tuple[str, ...] = ()


def read_text(path: Path) -> str:
    """A text file's content. InputError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8") from None


def read_json(path: Path) -> object:
    """What a JSON file holds; its objects are `Repeats`. InputError where it is none."""

    def keep(pairs: list[tuple[str, object]]) -> Repeats:
        result = Repeats()
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


def read_object(path: Path) -> Repeats:
    """The object that a JSON file holds. InputError where it holds something else."""
    found = read_json(path)
    if not isinstance(found, Repeats):
        raise InputError(f"{path} holds no object of JSON: its entries need names")
    return found


def read_list(path: Path) -> list[object]:
    """The list that a JSON file holds. InputError where it holds something else."""
    found = read_json(path)
    if not isinstance(found, list):
        raise InputError(f"{path} holds no list of JSON")
    return found
