"""Short names of models that are open and maintained on the hub, from `models.yaml`."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

_FILE = Path(__file__).with_name("models.yaml")


class ShortName(BaseModel):
    """A short name of a model on the hub. The fields are described in `models.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    is_called: str = Field(alias="is")
    size: str
    download: float
    memory: Mapping[str, Mapping[int, float]]
    licence: str
    good_at: str
    also: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()


@cache
def short_names() -> dict[str, ShortName]:
    """Return all short names, in the order of the file."""
    content = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: ShortName.model_validate(values) for name, values in content.items()}


def replacement_of(hub_id: str) -> str | None:
    """Return the short name of what replaces a model that the hub no longer has."""
    return next((name for name, one in short_names().items() if hub_id in one.withdrawn), None)
