"""Options that are declared once. A declaration gives the check and its message, the YAML field,
the Python keyword, the flag on the command line (see `arguments`), the control on the web page, and
the answer to "does this option change the result?" (`Lifetime`).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import NotRequired, Self, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from pnpvideo.errors import InputError
from pnpvideo.options.other_names import OTHER_NAMES
from pnpvideo.options.printed import without_secrets
from pnpvideo.options.values import plain_number

_SHOWN = 100
"""The most characters of a value in a message."""
# Python stands such halves of pairs in for the bytes of a file name that are not UTF-8.
_NOT_IN_TEXTS, _NOT_IN_PATHS = re.compile(r"[\0\ud800-\udfff]"), re.compile(r"\0")


class Lifetime(IntEnum):
    """The first part of a run that an option changes. All later parts change with it; the
    work of earlier parts can be used again.

    Every option has one in its annotation, such as `Annotated[int, Lifetime.SAMPLING]`.
    """

    INVERSION = 1
    """The inverted source."""
    SAMPLING = 2
    """The latents of the result."""
    FINISHING = 3
    """The files of the result."""
    MEASURING = 4
    """Figures that are measured of the source or of the result."""
    NOTHING = 5
    """Neither results nor figures: how the machine is used, what is printed, where work is kept."""


class Schema(TypedDict):
    """An option's declaration as JSON schema, with a few keys of our own.

    brief: the line of a main option in a short help text. form: what is accepted, if type and
    limits do not say it. metavar: the placeholder for the value in a help text. short: the
    one-letter flag. positional: given without a flag. missing: what the message asks for if a
    required option is not given.
    """

    description: str
    default: NotRequired[object]
    type: NotRequired[str]
    enum: NotRequired[list[str]]
    minimum: NotRequired[float]
    exclusiveMinimum: NotRequired[float]
    maximum: NotRequired[float]
    format: NotRequired[str]
    brief: NotRequired[str]
    form: NotRequired[str]
    metavar: NotRequired[str]
    short: NotRequired[str]
    positional: NotRequired[bool]
    missing: NotRequired[str]


class Options(BaseModel):
    """Frozen options, each with its type, limits, default, lifetime and one line of help.

    An option whose attribute has another name than its flag (`frame_count`, `--frames`) can be
    given under either. `model_fields_set` holds the options that were given. InputError names the
    first that cannot be used.
    """

    # Checks are built on first use, so that help and --version do not wait for them.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        for name in cls.model_fields:
            cls.lifetime(name)

    def __init__(self, **values: object) -> None:
        values = _by_given_name(type(self), values)
        _check_texts(type(self), values)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(type(self), values, error) from None
        except RecursionError:
            raise InputError("an option is nested too deeply; give a plain value") from None

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Return options from values by name, as a file or a page gives them."""
        return cls(**values)

    @classmethod
    def check(cls, name: str, value: object) -> None:
        """Raise InputError if an option cannot have this value."""
        cls(**{name: value})

    @classmethod
    def lifetime(cls, name: str) -> Lifetime:
        """Return an option's lifetime. TypeError if it is declared without one."""
        for note in cls.model_fields[name].metadata:
            if isinstance(note, Lifetime):
                return note
        raise TypeError(f"{cls.__name__}.{name} is declared without a Lifetime")

    def affecting(self, part: Lifetime) -> dict[str, object]:
        """Return the options that change this part of a run or an earlier one, as JSON values.

        Work that was made with other values of these cannot be used again.
        """
        return self.model_dump(mode="json", include=set(_affecting(type(self), part)))

    def part(self, group: "type[Options]") -> dict[str, object]:
        """Return the values of the options in one group, by the names they are given under."""
        return self.model_dump(by_alias=True, include=set(group.model_fields))

    def plain(self) -> dict[str, object]:
        """Return all options by name, as YAML and JSON values."""
        return self.model_dump(mode="json", by_alias=True)


@cache
def _affecting(options: type[Options], part: Lifetime) -> frozenset[str]:
    """Return the names of the options that change this part of a run or an earlier one."""
    return frozenset(name for name in options.model_fields if options.lifetime(name) <= part)


@cache
def declared(options: type[Options]) -> dict[str, Schema]:
    """Return each option's declaration, by the name that it is given under."""
    found: dict[str, Schema] = {}
    for name, schema in options.model_json_schema().get("properties", {}).items():
        # None beside a type says that something else decides; it is not to be given.
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        found[name] = schema | kinds[0] if kinds else schema
    return found


def by_title(*groups: type[Options]) -> dict[str, type[Options]]:
    """Return groups of options by their titles, as the sections of a help text."""
    return {str(group.model_config["title"]): group for group in groups}


def given_name(options: type[Options], name: str) -> str:
    """Return the name that an option is given under, from its attribute: frames for frame_count."""
    field = options.model_fields.get(name)
    return field.alias or name if field else name


def check_text(text: str, *, is_path: bool = False) -> None:
    """Raise InputError for characters that no text has, such as NUL or half of a pair of UTF-16.

    is_path: whether it may be a file name that is not UTF-8.
    """
    if (_NOT_IN_PATHS if is_path else _NOT_IN_TEXTS).search(text):
        raise InputError(f"{shown(text)} has a character that is not text; remove it")


def shown(value: object) -> str:
    """Return a value for a message: the beginning of how Python writes it, without secrets.

    It is one line.
    """
    try:
        text = without_secrets(" ".join(map(str.strip, repr(value)[: 10 * _SHOWN].splitlines())))
    except ValueError:
        return "a number of thousands of digits"
    except RecursionError:
        return "a list of lists of lists"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def accepted(schema: Schema) -> str:
    """Return the accepted values of an option, for the end of a message: "a number from 0 to 1"."""
    if "form" in schema:
        return schema["form"]
    if "enum" in schema:
        return one_of(schema["enum"])
    kind = {
        "boolean": "true or false",
        "integer": "a whole number",
        "number": "a number",
        "array": "a text or a list of texts",
        "string": "a text",
    }[schema.get("type", "string")]
    if "exclusiveMinimum" in schema and "maximum" in schema:
        return f"{kind} above {schema['exclusiveMinimum']} and up to {schema['maximum']}"
    if "minimum" not in schema:
        return kind
    if "maximum" not in schema:
        return f"{kind} of at least {schema['minimum']}"
    return f"{kind} from {schema['minimum']} to {schema['maximum']}"


def one_of(names: Iterable[str]) -> str:
    """Return names for the end of a message: "fast, balanced or best"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def unknown_option(name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown option name, with ours for a name of another tool."""
    ours = _ours(name, list(known))
    return InputError(f"there is no option {name}{ours or nearest(name, known)}")


def _ours(name: str, known: Collection[str]) -> str:
    """Return the end of a message about a name that other tools use; empty for other names."""
    plain = name.lstrip("-").replace("-", "_").lower()
    option, hint = OTHER_NAMES.get(plain, ("", ""))
    for one in known:
        if (
            one.startswith("-") == name.startswith("-")
            and one.lstrip("-").replace("-", "_") == option
        ):
            return f"; here it is {one}{hint}"
    has_source = any(one.lstrip("-") == "prompt" for one in known)
    return "; give the source itself, without a flag" if option == "source" and has_source else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: a similar known name, if there is one."""
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _by_given_name(options: type[Options], values: Mapping[str, object]) -> dict[str, object]:
    """Return values by the names that options are given under, with Python's own numbers.

    InputError if one has two values.
    """
    found: dict[str, object] = {}
    for name, value in values.items():
        given = given_name(options, name)
        if given in found:
            first, second = (one for one in values if given_name(options, one) == given)
            raise InputError(f"{first} and {second} are the same option; give one of them")
        found[given] = plain_number(value)
    return found


def _check_texts(options: type[Options], values: Mapping[str, object]) -> None:
    """Raise InputError if a text, or one of several, has characters that are not text."""
    for name, value in values.items():
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str | Path) and _NOT_IN_TEXTS.search(str(text)):
                schema = declared(options).get(name)
                form = "" if schema is None else schema.get("format", "")
                check_text(str(text), is_path=form.startswith("path"))


def _refusal(
    options: type[Options], values: Mapping[str, object], error: ValidationError
) -> InputError:
    """Return the first of pydantic's errors as one line."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    name, known = str(first["loc"][0]), declared(options)
    if name not in known:
        return unknown_option(name, [*known, *options.model_fields])
    if first["type"] == "missing":
        return InputError(
            f"give {known[name].get('missing') or f'{name}: {accepted(known[name])}'}"
        )
    return InputError(f"{name} is {shown(values[name])}; give {accepted(known[name])}")
