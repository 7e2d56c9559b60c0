"""Options that are declared once. A declaration gives the check with its message, the YAML field,
the Python keyword, the flag of the command line (see `arguments`) and a JSON schema for a page.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import NotRequired, Self, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from pnpvideo.errors import InputError


class Schema(TypedDict):
    """What is declared of an option, in the words of JSON schema; the last four are ours.

    form: what is accepted, where type and limits do not say it. metavar: what stands for the value
    in a help text. short: the one-letter flag. positional: given without a flag.
    """

    default: object
    description: str
    type: NotRequired[str]
    enum: NotRequired[list[str]]
    minimum: NotRequired[float]
    maximum: NotRequired[float]
    format: NotRequired[str]
    form: NotRequired[str]
    metavar: NotRequired[str]
    short: NotRequired[str]
    positional: NotRequired[bool]


class Options(BaseModel):
    """Frozen options, each with its type, limits, default and one line of help.

    `model_fields_set` tells which were given. InputError names the first that cannot be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(type(self), values, error) from None

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Options from values by name, as a file or a page gives them."""
        return cls(**values)

    @classmethod
    def check(cls, name: str, value: object) -> None:
        """InputError unless one option may have this value."""
        cls(**{name: value})

    def part(self, group: "type[Options]") -> dict[str, object]:
        """Those that one of its groups declares, by the names they are given under."""
        return self.model_dump(by_alias=True, include=set(group.model_fields))

    def plain(self) -> dict[str, object]:
        """All of them by name, as YAML and JSON hold them."""
        return self.model_dump(mode="json", by_alias=True)


@cache
def declared(options: type[Options]) -> dict[str, Schema]:
    """What is declared of each option, by the name that it is given under."""
    found: dict[str, Schema] = {}
    for name, schema in options.model_json_schema()["properties"].items():
        # None beside a type says that something else decides; it is not to be given.
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        found[name] = schema | kinds[0] if kinds else schema
    return found


def accepted(schema: Schema) -> str:
    """What can be given for an option, as a message ends: "a number from 0 to 1"."""
    if "form" in schema:
        return schema["form"]
    if "enum" in schema:
        return f"{', '.join(schema['enum'][:-1])} or {schema['enum'][-1]}"
    kind = {
        "boolean": "true or false",
        "integer": "a whole number",
        "number": "a number",
        "array": "a text or a list of texts",
        "string": "a text",
    }[schema.get("type", "string")]
    if "minimum" not in schema:
        return kind
    if "maximum" not in schema:
        return f"{kind} of at least {schema['minimum']}"
    return f"{kind} from {schema['minimum']} to {schema['maximum']}"


def unknown_option(name: str, known: Iterable[str]) -> InputError:
    """The error for a name that no option has."""
    return InputError(f"there is no option {name}{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown name: the nearest one that is known, if one is near."""
    near = get_close_matches(name, known, n=1)
    return f"; do you mean {near[0]}?" if near else ""


def _refusal(
    options: type[Options], values: Mapping[str, object], error: ValidationError
) -> InputError:
    """The first of pydantic's errors as one line of ours."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    name, known = str(first["loc"][0]), declared(options)
    if name not in known:
        return unknown_option(name, known)
    return InputError(f"{name} is {values[name]!r}; give {accepted(known[name])}")
