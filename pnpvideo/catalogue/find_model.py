"""Where the model of a name is: in the package, in a folder or file, or on the hub."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from pnpvideo.catalogue.short_names import short_names
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.paths import expanded
from pnpvideo.options.values import EMBEDDED_MODEL

EMBEDDED = Path(__file__).parent.parent / "embedded"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_WEIGHTS = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
_TRUE = ("1", "ON", "YES", "TRUE")


def find_model(model: str | Path) -> Path | str:
    """Return the folder or the file of a model, or its id on the hub.

    A folder or a file of the name comes before a short name or an id on the hub, but `embedded` is
    always the model of the package. InputError, with the nearest name, if there is none.
    """
    name = str(model)
    path = EMBEDDED if name == EMBEDDED_MODEL else expanded(model)
    if path.exists():
        return path
    if name in short_names():
        return short_names()[name].id
    if HUB_ID.fullmatch(name) and path.suffix not in _WEIGHTS:
        return name
    raise InputError(
        f"there is no model {name!r}; {_nearest(name)}give a name that 'pnpvideo models' lists, "
        "a diffusers folder, a hub id such as owner/name, or a .safetensors file"
    )


def model_folder(model: str) -> Path | None:
    """Return the folder of a model that is on this machine; None for files and the hub's models."""
    path = EMBEDDED if model == EMBEDDED_MODEL else expanded(model)
    return path if path.is_dir() else None


def check_model(model: str) -> None:
    """Raise InputError or RunError for a model that cannot be there, without loading torch."""
    found = find_model(model)
    if isinstance(found, str) and is_offline() and not cache_folder(found).is_dir():
        raise RunError(not_in_cache(found))


def is_offline() -> bool:
    """Return whether the environment keeps this machine from asking the hub."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in _TRUE for value in values)


def cache_folder(hub_id: str) -> Path:
    """Return the folder that the hub's cache has for a model, if it has any."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    place = os.environ.get("HF_HOME") or f"{home}/huggingface"
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    folder = Path(os.path.expandvars(cache or f"{place}/hub"))
    return expanded(folder) / f"models--{hub_id.replace('/', '--')}"


def not_in_cache(hub_id: str) -> str:
    """Return the line about a model that only the hub has, while it may not be asked."""
    return (
        f"HF_HUB_OFFLINE is set, and the hub's cache has no {hub_id}; unset it, or "
        f"{download_elsewhere(hub_id)}"
    )


def download_elsewhere(hub_id: str, what: str = "model") -> str:
    """Return what to do on a machine that does not reach the hub."""
    return (
        f"run 'hf download {hub_id} --local-dir FOLDER' where there is a network, and give that "
        f"FOLDER as the {what}"
    )


def _nearest(name: str) -> str:
    """Return the middle of a message: the nearest name of a model, if there is one."""
    plain = _letters(Path(name).name)
    keys = {_letters(EMBEDDED_MODEL): EMBEDDED_MODEL, "bundled": EMBEDDED_MODEL}
    for short, model in short_names().items():
        for text in (short, model.id.rpartition("/")[2], model.is_called, *model.also):
            keys.setdefault(_letters(text), short)
    near = get_close_matches(plain, keys, n=3, cutoff=0.7)
    # Letters in the wrong order are likelier than wrong letters.
    near.sort(key=lambda key: sorted(key) != sorted(plain))
    found = [keys[key] for key in near] or get_close_matches(name, list(_beside(name)), n=1)
    return f"did you mean {found[0]}? Otherwise " if found else ""


def _letters(text: str) -> str:
    """Return a name in small letters, without dots, dashes and the like: sd15 for SD-1.5."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _beside(name: str) -> Iterator[str]:
    """Yield the models, as their paths are written, that are in the same folder as a path."""
    path = expanded(name)
    try:
        for one in sorted(path.parent.iterdir()):
            if (one / "model_index.json").is_file() or one.suffix == ".safetensors":
                yield str(Path(name).with_name(one.name))
    except (OSError, ValueError):
        return
