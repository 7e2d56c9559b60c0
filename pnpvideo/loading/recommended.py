"""A model folder's recommended options and layers, in `pnp.json`."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pnpvideo.catalogue.own_options import FILE
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import atomic_output
from pnpvideo.files.read_text import parse_json, read_text
from pnpvideo.models.network import InjectionLayers
from pnpvideo.options.method import PnPOptions


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """Recommended settings.

    options: those that suit the model; the paper's by default. layers: None for the usual rule.
    blocks: the blocks of a transformer to inject into (see `InjectionLayers`); None for those of
    its family.
    """

    options: PnPOptions = field(default_factory=PnPOptions)
    layers: InjectionLayers | None = None
    blocks: tuple[tuple[str, str], ...] | None = None


_NO_OPTIONS = PnPOptions()


def read_recommended(folder: Path, options: PnPOptions = _NO_OPTIONS) -> Recommended:
    """Read a folder's recommendations. Raise InputError if they cannot be used.

    options: those of the model's family, which the folder's own override.
    """
    path = folder / FILE
    if not path.is_file():
        return Recommended(options=options)
    given = parse_json(read_text(path), path)
    try:
        content = _table(given, "the file")
        options = options.override(_table(content.get("options", {}), "options"))
        named = _table(content.get("layers", {}), "layers")
        layer_names = {name: tuple(modules) for name, modules in named.items()}
        if layer_names and layer_names.keys() | {"shared"} != {"features", "attentions", "shared"}:
            names = ", ".join(layer_names)
            raise ValueError(f"layers names {names}, not features and attentions (and shared)")
        layers = InjectionLayers(**layer_names) if layer_names else None
        blocks = _blocks(_table(content.get("blocks", {}), "blocks")) or None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    return Recommended(options=options, layers=layers, blocks=blocks)


def _table(value: Any, what: str) -> dict[str, Any]:
    """Return a value that must have names. ValueError for another."""
    if not isinstance(value, dict):
        raise ValueError(f'{what} is {value!r:.40}; write names with values, as in {{"name": 1}}')
    return value


def _blocks(table: dict[str, object]) -> tuple[tuple[str, str], ...]:
    """Return each block of a table with its letters. ValueError for other values.

    "single_transformer_blocks.20-37" stands for all from 20 to 37.
    """
    found: dict[str, str] = {}
    for name, letters in table.items():
        if not isinstance(letters, str) or not letters or set(letters) - set("qkvf"):
            raise ValueError(f"blocks has {letters!r} for {name}, not some of q, k, v and f")
        match = re.fullmatch(r"(.+)\.(\d{1,4})-(\d{1,4})", name)
        numbers = range(int(match[2]), int(match[3]) + 1) if match else range(0)
        if match and not numbers:
            raise ValueError(f"blocks has {name}, which names none; give the smaller number first")
        for block in [f"{match[1]}.{number}" for number in numbers] if match else [name]:
            found[block] = "".join(dict.fromkeys(found.get(block, "") + letters))
    return tuple(found.items())


def write_blocks(folder: Path, blocks: Mapping[str, str]) -> Path:
    """Write a table of blocks for `read_recommended`, and keep all else that the file has.

    Return the file. InputError if it cannot be read, RunError if it cannot be written.
    """
    path = folder / FILE
    content = parse_json(read_text(path), path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{path} cannot be used: it is not an object of JSON")
    with atomic_output(path, folder=False, overwrite=True) as part:
        text = json.dumps({**content, "blocks": dict(blocks)}, indent=2, ensure_ascii=False)
        part.write_text(f"{text}\n", encoding="utf-8")
    return path


def write_recommended(folder: Path, recommended: Recommended) -> None:
    """Write recommendations for `read_recommended`."""
    assert recommended.layers is not None
    layers = asdict(recommended.layers)
    del layers["blocks"]  # A UNet has none.
    content = {"options": recommended.options.plain(), "layers": layers}
    (folder / FILE).write_text(json.dumps(content, indent=2))
