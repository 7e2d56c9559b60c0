"""The networks that measure, loaded from a hub id or a folder.

Only safetensors are read. A network that is not there is a `MissingNetworkError`: what it would
measure is left out, never guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import huggingface_hub
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pnpvideo.errors import InputError
from pnpvideo.evaluation.lpips import Lpips
from pnpvideo.loading.hub import reach_hub

NONE = "none"
"""Given in the place of a network to do without it."""
_UNUSABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a network is for. default: where it is had from; None has to be given, as `form`."""

    default: str | None
    text: str
    form: str = "FOLDER"


ROLES: dict[str, Role] = {
    "clip-large": Role(
        default="openai/clip-vit-large-patch14", text="CLIP score of PIE-Bench and FiVE-Bench"
    ),
    "clip": Role(default="openai/clip-vit-base-patch32", text="all else of CLIP"),
    "structure": Role(default="facebook/dino-vitb8", text="structure distance"),
    "dino": Role(default="facebook/dino-vits16", text="similarity of pictures"),
    "lpips-squeeze": Role(
        default=None, text="LPIPS of PIE-Bench and FiVE-Bench", form="FILE.safetensors"
    ),
    "lpips-alex": Role(default=None, text="LPIPS of FlexIT", form="FILE.safetensors"),
    "classifier": Role(
        default="facebook/deit-base-distilled-patch16-384", text="accuracy of FlexIT"
    ),
    "features": Role(default=None, text="SFID and CSFID of FlexIT, with their statistics"),
}


class MissingNetworkError(Exception):
    """A network that is not there. The message says which and why."""


def load_network(
    role: str, place: str | None
) -> tuple[nn.Module, transformers.CLIPTokenizer | None]:
    """A role's network from a hub id or a folder, and CLIP's tokenizer. MissingNetworkError."""
    if place is None or place == NONE:
        raise MissingNetworkError(not_given(role, place))
    remedy = "give another"
    tokenizer = None
    try:
        if role.startswith("lpips"):
            return _load_lpips(role, Path(place).expanduser()), None
        local = Path(place).expanduser()
        options = {} if local.is_dir() else reach_hub({})
        where = str(local) if local.is_dir() else place
        if options:  # Else the library would knock again and again for what is not kept.
            remedy = "connect to the network, or give a folder of it"
            _check_kept(place)
        load = _LOADERS.get(role, transformers.AutoModel.from_pretrained)
        network: nn.Module = load(where, use_safetensors=True, **options)
        if role.startswith("clip"):
            tokenizer = transformers.CLIPTokenizer.from_pretrained(where, **options)
    except _UNUSABLE as error:
        reason = " ".join(str(error).split()).split(". ")[0][:200]
        raise MissingNetworkError(
            f"the network {role} ({ROLES[role].text}) cannot be loaded from {place}: "
            f"{reason.rstrip('.')}; {remedy}, --network {role}={ROLES[role].form}"
        ) from None
    return network, tokenizer


def not_given(role: str, place: str | None) -> str:
    """Why a network that is not asked for is not there."""
    text = f"the network {role} ({ROLES[role].text}) is not given"
    return text if place == NONE else f"{text}; give --network {role}={ROLES[role].form}"


def _check_kept(place: str) -> None:
    """OSError where the hub, which does not answer, has given nothing of a network before."""
    try:
        huggingface_hub.hf_hub_download(place, "config.json", local_files_only=True)
    except LocalEntryNotFoundError:
        raise OSError("the hub cannot be reached, and nothing of it is kept here") from None


# DINO has no layer that pools: it would be filled at random, and tell networks apart that are one.
_dino = partial(transformers.ViTModel.from_pretrained, add_pooling_layer=False)
_LOADERS = {
    "structure": _dino,
    "dino": _dino,
    "clip-large": transformers.CLIPModel.from_pretrained,
    "clip": transformers.CLIPModel.from_pretrained,
    "classifier": transformers.AutoModelForImageClassification.from_pretrained,
}


def _load_lpips(role: str, path: Path) -> nn.Module:
    """ValueError or RuntimeError where the file is none, or of another network."""
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


def parse_places(given: Sequence[str]) -> dict[str, str]:
    """ROLE=PLACE texts by role. InputError where one is none."""
    places = {}
    for text in given:
        role, sign, place = text.partition("=")
        if not sign or not place or role not in ROLES:
            raise InputError(
                f"network is {text!r}; give ROLE=FOLDER or ROLE=HUB_ID, the role being one of "
                f"{', '.join(ROLES)}"
            )
        places[role] = place
    return places
