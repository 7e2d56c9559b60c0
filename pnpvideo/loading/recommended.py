"""What a model's folder says of its use, in `pnp.json`: options of the method, and layers."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.models.network import InjectionLayers
from pnpvideo.options.method import PnPOptions

_FILE = "pnp.json"


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """options: those that suit the model; the paper's by default. layers: None is the rule."""

    options: PnPOptions = field(default_factory=PnPOptions)
    layers: InjectionLayers | None = None


def read_recommended(folder: Path) -> Recommended:
    """What a folder says. InputError where that cannot be used."""
    path = folder / _FILE
    if not path.is_file():
        return Recommended()
    try:
        own = json.loads(path.read_text(encoding="utf-8"))
        options = PnPOptions.of(dict(own.get("options", {})))
        places = {name: tuple(modules) for name, modules in dict(own.get("layers", {})).items()}
        if places and places.keys() | {"shared"} != {"features", "attentions", "shared"}:
            names = ", ".join(places)
            raise ValueError(f"layers names {names}, not features and attentions (and shared)")
        layers = InjectionLayers(**places) if places else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    return Recommended(options=options, layers=layers)


def write_recommended(folder: Path, recommended: Recommended) -> None:
    """Write it where `read_recommended` finds it."""
    assert recommended.layers is not None
    own = {"options": recommended.options.plain(), "layers": asdict(recommended.layers)}
    (folder / _FILE).write_text(json.dumps(own, indent=2))
