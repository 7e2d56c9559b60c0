"""Loading of the networks for measures, from a hub id or a folder.

Only safetensors are read. A network that is not available raises `MissingNetworkError`, and its
measures are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import huggingface_hub
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import nn

from pnpvideo.errors import InputError
from pnpvideo.evaluation.lpips import Lpips
from pnpvideo.loading.hub import LOADING_ERRORS, reach_hub
from pnpvideo.loading.pretrained import load_pretrained
from pnpvideo.options.paths import expanded

NONE = "none"
"""The place of a network that is not to be used."""


@dataclass(frozen=True, kw_only=True)
class NetworkRole:
    """The purpose of a network. default: its usual place; None if it must be given, as `form`."""

    default: str | None
    text: str
    form: str = "FOLDER"


ROLES: dict[str, NetworkRole] = {
    "clip-large": NetworkRole(
        default="openai/clip-vit-large-patch14", text="CLIP score of PIE-Bench and FiVE-Bench"
    ),
    "clip": NetworkRole(default="openai/clip-vit-base-patch32", text="all other CLIP measures"),
    "structure": NetworkRole(default="facebook/dino-vitb8", text="structure distance"),
    "dino": NetworkRole(default="facebook/dino-vits16", text="similarity of pictures"),
    "lpips-squeeze": NetworkRole(
        default=None, text="LPIPS of PIE-Bench and FiVE-Bench", form="FILE.safetensors"
    ),
    "lpips-alex": NetworkRole(default=None, text="LPIPS of FlexIT", form="FILE.safetensors"),
    "classifier": NetworkRole(
        default="facebook/deit-base-distilled-patch16-384", text="accuracy of FlexIT"
    ),
    "features": NetworkRole(default=None, text="SFID and CSFID of FlexIT, with their statistics"),
}


class MissingNetworkError(Exception):
    """A network that is not available. The message says which and why."""


def load_network(
    role: str, place: str | None
) -> tuple[nn.Module, transformers.CLIPTokenizer | None]:
    """Load a role's network from a hub id or a folder, and CLIP's tokenizer.

    Raise MissingNetworkError if it is not available.
    """
    if place is None or place == NONE:
        raise MissingNetworkError(not_given(role, place))
    remedy = "give another"
    tokenizer = None
    try:
        if role.startswith("lpips"):
            return _load_lpips(role, expanded(place)), None
        folder = expanded(place)
        if not folder.is_dir() and (folder.is_absolute() or place.startswith(".")):
            raise OSError("there is no such folder")
        options = {} if folder.is_dir() else reach_hub({})
        source = str(folder) if folder.is_dir() else place
        if options:  # Otherwise the library would retry for files that are not cached.
            remedy = "connect to the internet, or give its folder"
            _check_cached(place)
        load = _LOADERS.get(role, transformers.AutoModel.from_pretrained)
        network: nn.Module = load_pretrained(load, source, **options)
        if role.startswith("clip"):
            tokenizer = transformers.CLIPTokenizer.from_pretrained(source, **options)
    except LOADING_ERRORS as error:
        reason = " ".join(str(error).split()).split(". ")[0][:200]
        raise MissingNetworkError(
            f"the network {role} ({ROLES[role].text}) cannot be loaded from {place}: "
            f"{reason.rstrip('.')}; {remedy}, --network {role}={ROLES[role].form}"
        ) from None
    return network, tokenizer


def not_given(role: str, place: str | None) -> str:
    """Return the message for a network that was not given."""
    text = f"the network {role} ({ROLES[role].text}) is not given"
    return text if place == NONE else f"{text}; give --network {role}={ROLES[role].form}"


def _check_cached(place: str) -> None:
    """Raise OSError if the hub cannot be reached and a network is not in the cache."""
    try:
        huggingface_hub.hf_hub_download(place, "config.json", local_files_only=True)
    except LocalEntryNotFoundError:
        raise OSError("the hub cannot be reached, and the network is not in the cache") from None


# DINO has no pooling layer: a random one would give the same network different fingerprints.
_dino = partial(transformers.ViTModel.from_pretrained, add_pooling_layer=False)
_LOADERS = {
    "structure": _dino,
    "dino": _dino,
    "clip-large": transformers.CLIPModel.from_pretrained,
    "clip": transformers.CLIPModel.from_pretrained,
    "classifier": transformers.AutoModelForImageClassification.from_pretrained,
}


def _load_lpips(role: str, path: Path) -> nn.Module:
    """Load LPIPS weights. Raise ValueError or RuntimeError if the file is not for this network."""
    if path.suffix != ".safetensors":
        raise ValueError("give a .safetensors file with torchvision's weights")
    network = Lpips("alex" if role == "lpips-alex" else "squeeze")
    weights = {
        name.removeprefix("features."): value
        for name, value in load_file(path).items()
        if not name.startswith("classifier.")
    }
    network.features.load_state_dict(weights)
    return network


def parse_places(texts: Sequence[str]) -> dict[str, str]:
    """Parse ROLE=PLACE texts into places by role. Raise InputError for a text of another form."""
    places = {}
    for text in texts:
        role, sign, place = text.partition("=")
        if not sign or not place or role not in ROLES:
            raise InputError(
                f"network is {text!r}; give ROLE=FOLDER or ROLE=HUB_ID, where ROLE is one of "
                f"{', '.join(ROLES)}"
            )
        places[role] = place
    return places
