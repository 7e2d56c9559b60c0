"""The settings of one run of `grid`: values of options that are tried with one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options, unknown_option
from pnpvideo.options.evaluation import BenchmarkName
from pnpvideo.options.method import Lifetime, MethodOptions, MethodSettings, PnPOptions
from pnpvideo.options.paths import PathText
from pnpvideo.options.settings import MachineSettings, ModelSettings, SourceSettings, TextSettings
from pnpvideo.options.subject import SubjectSettings
from pnpvideo.options.values import Texts

Axes = dict[str, tuple[object, ...]]
"""By option: the values that are tried."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value of each option of a grid."""

    options: dict[str, object]

    @property
    def name(self) -> str:
        """Such as "tau_f=0.4,tau_a=0.8"."""
        return ",".join(f"{name}={value}" for name, value in self.options.items())


_DEFAULT = ("tau_f=0.2,0.4,0.6,0.8,1", "tau_a=0.2,0.5,0.8,1")


class GridChoice(Options):
    """What is tried, and where to."""

    grid: Texts = Field(
        default=_DEFAULT,
        description="OPTION=VALUE,VALUE,...: values that are tried with all of the others'; one "
        "option of the method that leaves the inversion as it is, such as tau_f=0.4,0.6,0.8; "
        f"several may be given ({' and '.join(_DEFAULT)})",
        json_schema_extra={"metavar": "OPTION=VALUES"},
    )
    benchmark: BenchmarkName | None = Field(
        default=None,
        description="try them on a benchmark: SOURCE is then its data, as for evaluate, and the "
        "prompts are its own",
    )
    limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="of a benchmark, only so many items, the first ones (all)"
    )
    types: Texts = Field(
        default=(), description="of a benchmark, only this edit type; several may be given (all)"
    )
    networks: Texts = Field(
        default=(),
        alias="network",
        description="ROLE=FOLDER or HUB_ID: a network that measures in place of the model itself; "
        "structure (DINO) or clip",
        json_schema_extra={"metavar": "ROLE=PLACE"},
    )
    side: int = Field(
        default=224, ge=32, le=1024, description="pixels of each picture's longer side on sheets"
    )
    output: PathText | None = Field(
        default=None,
        description="folder for results, contact sheet, plot and table",
        json_schema_extra={"short": "-o", "metavar": "DIR"},
    )


class GridSettings(GridChoice, SubjectSettings):
    """What `grid` does."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.output is None:
            raise InputError("give a folder for the results, with -o")
        if self.benchmark is None and not self.prompt:
            raise InputError("give a prompt that says what the result is to show")
        if self.benchmark is not None and (self.prompt or self.source is None):
            raise InputError("a benchmark has prompts and sources of its own; give its data alone")
        if self.benchmark is not None and self.control_image is not None:
            raise InputError("a benchmark has many sources; give control and no control_image")
        if self.benchmark is None and (self.limit is not None or self.types):
            raise InputError("limit and types choose from a benchmark; leave them out")
        read_axes(self.grid)
        return self


GROUPS: dict[str, type[Options]] = {
    "source": SourceSettings,
    "grid": GridChoice,
    "text": TextSettings,
    "method (defaults: the model's own, or the paper's)": MethodSettings,
    "model": ModelSettings,
    "machine": MachineSettings,
}
"""The groups of `GridSettings` in the order and with the titles of a help text."""


def read_axes(given: Sequence[str]) -> Axes:
    """OPTION=VALUE,VALUE texts by option. InputError for what cannot be tried."""
    axes: Axes = {}
    for text in given:
        name, sign, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not values.strip():
            raise InputError(f"grid is {text!r}; give OPTION=VALUE,VALUE, such as tau_f=0.4,0.8")
        if name not in MethodOptions.model_fields:
            raise unknown_option(name, MethodOptions.model_fields)
        if PnPOptions.lifetime(name) is Lifetime.INVERSION:
            raise InputError(
                f"{name} changes the inversion, and a grid has one for all; leave it out of grid"
            )
        if name in axes:
            raise InputError(f"grid has {name} twice; give all its values in one")
        axes[name] = tuple(_value(value) for value in values.split(","))
        for number, value in enumerate(axes[name]):
            MethodOptions.check(name, value)
            if value in axes[name][:number]:
                raise InputError(f"grid: {name} has {value} twice; give each value once")
    return axes


def split_place(given: str) -> tuple[str, str]:
    """ROLE=PLACE as its two parts. InputError where it is none."""
    role, sign, place = given.partition("=")
    if not sign or not place:
        raise InputError(
            f"network is {given!r}; give ROLE=FOLDER or ROLE=HUB_ID, such as clip=clip/"
        )
    return role, place


def _value(text: str) -> object:
    """As a settings file would read it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def cells_of(axes: Axes) -> list[Cell]:
    """Every value with all of the others', the last option changing fastest."""
    return [Cell(options=dict(zip(axes, some, strict=True))) for some in product(*axes.values())]
