"""The settings of one run of `grid`: values of options to try in all combinations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_yaml
from pnpvideo.options.declared import Lifetime, Options, by_title, unknown_option
from pnpvideo.options.evaluation import BenchmarkName
from pnpvideo.options.method import Count, MethodOptions
from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import PathText
from pnpvideo.options.settings import MachineSettings, SourceSettings, TextSettings
from pnpvideo.options.subject import SubjectSettings
from pnpvideo.options.values import Texts

Axes = dict[str, tuple[object, ...]]
"""By option: the values to try."""


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One combination of a grid: one value of each of its options."""

    options: dict[str, object]

    @property
    def name(self) -> str:
        """The options and values, such as "tau_f=0.4,tau_a=0.8"."""
        return ",".join(f"{name}={value}" for name, value in self.options.items())


_MOST_CELLS = 10_000
_OF_METHOD = set(MethodOptions.model_fields)

_DEFAULT = ("tau_f=0.2,0.4,0.6,0.8,1", "tau_a=0.2,0.5,0.8,1")


class GridChoice(Options, title="grid"):
    """The values to try, and the folder of the results."""

    # Each combination has a result of its own, and values can be added.
    grid: Annotated[Texts, Lifetime.NOTHING] = Field(
        default=_DEFAULT,
        description="OPTION=VALUE,VALUE,...: values to try for an option of the method, such as "
        "tau_f=0.4,0.6,0.8; the option must not change the inversion; can be repeated, to try all "
        f"combinations ({' and '.join(_DEFAULT)})",
        json_schema_extra={"metavar": "OPTION=VALUES"},
    )
    benchmark: Annotated[BenchmarkName | None, Lifetime.INVERSION] = Field(
        default=None,
        description="try the values on a benchmark: SOURCE is its data, as for evaluate, and the "
        "prompts come with it",
    )
    limit: Annotated[Count | None, Lifetime.NOTHING] = Field(
        default=None, description="use only the first N items of a benchmark (all)"
    )
    types: Annotated[Texts, Lifetime.NOTHING] = Field(
        default=(), description="use only this edit type of a benchmark; can be repeated (all)"
    )
    network: Annotated[Texts, Lifetime.MEASURING] = Field(
        default=(),
        description="ROLE=FOLDER or ROLE=HUB_ID: a network to measure with instead of the model "
        "itself; the role is structure (DINO) or clip",
        json_schema_extra={"metavar": "ROLE=PLACE"},
    )
    # Sheets are drawn at the end of every run.
    side: Annotated[int, Lifetime.NOTHING] = Field(
        default=224, ge=32, le=1024, description="longer side of each picture on sheets, in pixels"
    )
    output: Annotated[PathText, Lifetime.NOTHING] = Field(
        description="folder for results, contact sheet, plot and table",
        json_schema_extra={
            "short": "-o",
            "metavar": "DIR",
            "missing": "a folder for the results, with -o",
        },
    )


class GridSettings(GridChoice, SubjectSettings):
    """All options of `grid`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.benchmark is None and not self.prompt:
            raise InputError("give a prompt that says what the result is to show")
        if self.benchmark is not None and (self.prompt or self.source is None):
            raise InputError("a benchmark has prompts and sources of its own; give only its data")
        if self.benchmark is not None and self.control_image is not None:
            raise InputError("a benchmark has many sources; give control, not control_image")
        if self.benchmark is None and (self.limit is not None or self.types):
            raise InputError("limit and types choose from a benchmark; leave them out")
        axes = read_axes(self.grid)
        given = {name: getattr(self, name) for name in self.model_fields_set & _OF_METHOD}
        for cell in cells_of(axes):
            MethodSettings.of(given | cell.options)  # Raises for what does not go together.
        return self


GROUPS = by_title(
    SourceSettings, GridChoice, TextSettings, MethodSettings, ModelSettings, MachineSettings
)
"""The groups of `GridSettings` by title, in the order of a help text."""


def read_axes(given: Sequence[str]) -> Axes:
    """Return values by option, from OPTION=VALUE,VALUE texts. InputError if one cannot be tried."""
    axes: Axes = {}
    for text in given:
        name, sign, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not values.strip():
            raise InputError(f"grid is {text!r}; give OPTION=VALUE,VALUE, such as tau_f=0.4,0.8")
        if name not in MethodOptions.model_fields:
            raise unknown_option(name, MethodOptions.model_fields)
        if MethodOptions.lifetime(name) is Lifetime.INVERSION:
            raise InputError(
                f"{name} changes the inversion, which a grid shares; leave it out of grid"
            )
        if name in axes:
            raise InputError(f"grid has {name} twice; give all its values together")
        axes[name] = tuple(_value(value) for value in values.split(","))
        for number, value in enumerate(axes[name]):
            MethodOptions.check(name, value)
            if value in axes[name][:number]:
                raise InputError(f"grid: {name} has {value} twice; give each value once")
    if (count := math.prod(map(len, axes.values()))) > _MOST_CELLS:
        raise InputError(f"grid has {count} combinations; give at most {_MOST_CELLS}")
    return axes


def split_place(given: str) -> tuple[str, str]:
    """Return ROLE=PLACE as its two parts. InputError if a text is not of this form."""
    role, sign, place = given.partition("=")
    if not sign or not place:
        raise InputError(
            f"network is {given!r}; give ROLE=FOLDER or ROLE=HUB_ID, such as clip=clip/"
        )
    return role, place


def _value(text: str) -> object:
    """Return a value as a settings file would read it."""
    try:
        return parse_yaml(text, text)
    except InputError:
        return text


def cells_of(axes: Axes) -> list[GridCell]:
    """Return all combinations of values; the last option changes fastest."""
    return [
        GridCell(options=dict(zip(axes, some, strict=True))) for some in product(*axes.values())
    ]
