"""The options that a model's folder recommends, for help texts. Loading a model checks them."""

import json
from collections.abc import Mapping

from pnpvideo.catalogue.find_model import model_folder

FILE = "pnp.json"


def own_options(model: str) -> Mapping[str, object]:
    """Return the options that a model's folder recommends, as they are written; perhaps none."""
    folder = model_folder(model)
    try:
        content = {} if folder is None else json.loads((folder / FILE).read_text(encoding="utf-8"))
        options = content.get("options")
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}
