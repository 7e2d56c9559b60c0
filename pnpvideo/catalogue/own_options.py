"""The options that a model's folder recommends, for help texts. Loading a model checks them."""

from collections.abc import Mapping

from pnpvideo.catalogue.find_model import model_folder
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, read_text

FILE = "pnp.json"


def own_options(model: str) -> Mapping[str, object]:
    """Return the options that a model's folder recommends, as they are written; perhaps none."""
    folder = model_folder(model)
    try:
        content = None if folder is None else parse_json(read_text(folder / FILE), FILE)
    except InputError:
        return {}
    options = content.get("options") if isinstance(content, dict) else None
    return options if isinstance(options, dict) else {}
