"""A model folder's recommended options and layers, in `pnp.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pnpvideo.catalogue.own_options import FILE
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.models.network import InjectionLayers
from pnpvideo.options.method import PnPOptions


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """Recommended settings.

    options: those that suit the model; the paper's by default. layers: None for the usual rule.
    """

    options: PnPOptions = field(default_factory=PnPOptions)
    layers: InjectionLayers | None = None


def read_recommended(folder: Path) -> Recommended:
    """Read a folder's recommendations. Raise InputError if they cannot be used."""
    path = folder / FILE
    if not path.is_file():
        return Recommended()
    given = parse_json(read_text(path), path)
    try:
        content = dict(given)  # type: ignore[call-overload]
        options = PnPOptions.of(dict(content.get("options", {})))
        layer_names = {
            name: tuple(modules) for name, modules in dict(content.get("layers", {})).items()
        }
        if layer_names and layer_names.keys() | {"shared"} != {"features", "attentions", "shared"}:
            names = ", ".join(layer_names)
            raise ValueError(f"layers names {names}, not features and attentions (and shared)")
        layers = InjectionLayers(**layer_names) if layer_names else None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    return Recommended(options=options, layers=layers)


def write_recommended(folder: Path, recommended: Recommended) -> None:
    """Write recommendations for `read_recommended`."""
    assert recommended.layers is not None
    content = {"options": recommended.options.plain(), "layers": asdict(recommended.layers)}
    (folder / FILE).write_text(json.dumps(content, indent=2))
