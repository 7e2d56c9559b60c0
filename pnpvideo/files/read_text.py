"""Reading of texts, JSON and YAML that people and programs wrote: any text gives a value or an
InputError of one line.
"""

import codecs
import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from pnpvideo.errors import InputError

# That of UTF-32 begins like that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""By the bytes that a file begins with: its encoding."""

_DEPTH = 50
"""The deepest nesting that is read; what is deeper cannot be printed or checked either."""
_LONGEST_YAML = 4_000_000
"""Characters, of which PyYAML reads some hundred thousand a second."""
_VALUES = 1_000_000
"""The most values in a YAML file, counted again wherever an alias repeats them."""


class JsonObject(dict[str, object]):
    """A JSON object with its first values. repeated: the names that occur again."""

    repeated: tuple[str, ...] = ()


def read_text(path: Path, what: str = "") -> str:
    """Read a file in UTF-8, or in UTF-16 or UTF-32 as Windows programs write it.

    what: begins the messages, such as "the settings". InputError if it is not readable text.
    """
    named = f"{what} {path}".strip()
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise InputError(f"{named} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{named} is not text in UTF-8 or UTF-16; save it as UTF-8") from None


def decoded(content: bytes) -> str:
    """Return the text of a file, in the encoding that it begins with. UnicodeDecodeError if none
    fits.
    """
    return content.decode(_encoding_of(content))


def _encoding_of(content: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    # Text in UTF-8 has no zero bytes, and lists begin with a letter, a quote or a bracket.
    if content[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if content[:1] == b"\0" else "utf-8"


def parse_json(text: str, place: object) -> object:
    """Return the value of a JSON text, with objects as `JsonObject`.

    place: begins the messages. InputError if it is not JSON or is nested too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_first_values)
    except RecursionError:
        raise _too_deep(place) from None
    except ValueError as error:  # Also of a number with thousands of digits.
        raise InputError(f"{place} is not JSON: {error}") from None
    _check_extent(value, place, None)
    return value


def parse_yaml(text: str, place: object) -> object:
    """Return the value of a YAML text. place: begins the messages.

    InputError if it is not YAML, is nested too deeply, or repeats itself endlessly.
    """
    if len(text) > _LONGEST_YAML:
        raise InputError(
            f"{place} has {len(text)} characters, and the limit for YAML is {_LONGEST_YAML}; give "
            "a shorter one"
        )
    try:
        value = _construct(text, place)
    except InputError:
        raise
    except RecursionError:
        raise _too_deep(place) from None
    # PyYAML lets the errors of Python's own types through, such as that of a 13th month.
    except Exception as error:
        raise InputError(f"{place} is not YAML: {_problem_of(error)}") from None
    _check_extent(value, place, _VALUES)
    return value


def _problem_of(error: Exception) -> str:
    """Return what PyYAML found, in one line, with the line of the file."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    text = " ".join(str(problem or error).split())
    return text if mark is None else f"{text} (line {mark.line + 1})"


def _construct(text: str, place: object) -> object:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _check_extent(node, place, _VALUES)  # Merging aliases ("<<") makes copies of all values.
        _check_names(node, place)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _check_names(node: yaml.Node | None, place: object) -> None:
    """Raise InputError for a mapping that has a name twice, of which YAML keeps the last one."""
    remaining = [node]
    seen: set[int] = set()
    while remaining:
        one = remaining.pop()
        if one is None or id(one) in seen:  # Aliases lead to the same nodes again.
            continue
        seen.add(id(one))
        if isinstance(one, yaml.SequenceNode):
            remaining += one.value
        elif isinstance(one, yaml.MappingNode):
            remaining += [value for _, value in one.value]
            names: set[str] = set()
            for name, _ in one.value:
                if not isinstance(name, yaml.ScalarNode) or name.value == "<<":
                    continue
                if name.value in names:
                    line = name.start_mark.line + 1
                    raise InputError(f"{place} has {name.value} twice (line {line}); give it once")
                names.add(name.value)


def _first_values(pairs: list[tuple[str, object]]) -> JsonObject:
    result = JsonObject()
    repeated = []
    for name, value in pairs:
        if name in result:
            repeated.append(name)
        else:
            result[name] = value
    result.repeated = tuple(repeated)
    return result


def _check_extent(value: object, place: object, most: int | None) -> None:
    """Raise InputError if a value is nested too deeply, contains itself, or has too many parts."""
    count = 0
    remaining = [(value, 0)]
    while remaining:
        one, depth = remaining.pop()
        if isinstance(one, Mapping):
            parts = [*one, *one.values()]
        elif isinstance(one, list | tuple | set):
            parts = [*one]
        elif isinstance(one, yaml.MappingNode):
            parts = [part for pair in one.value for part in pair]
        elif isinstance(one, yaml.SequenceNode):
            parts = one.value
        else:
            continue
        count += len(parts)
        if depth == _DEPTH:
            raise _too_deep(place)
        if most is not None and count > most:
            raise InputError(f"{place} has more than {most} values; write less of it with aliases")
        remaining += [(part, depth + 1) for part in parts]


def _too_deep(place: object) -> InputError:
    return InputError(f"{place} is nested too deeply, more than {_DEPTH} levels; write it flatter")
