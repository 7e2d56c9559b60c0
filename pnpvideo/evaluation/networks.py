"""The networks that measure, loaded when they are first asked for, from a hub id or a folder.

Only safetensors are read. A network that is not there is a `MissingNetworkError`: what it would
measure is left out, never guessed.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import huggingface_hub
import numpy as np
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.evaluation.lpips import Lpips
from pnpvideo.evaluation.prepare import CLIP, IMAGENET, cropped, normalised
from pnpvideo.loading.load import reach_hub
from pnpvideo.storage import fingerprint

NONE = "none"
"""Given in the place of a network to do without it."""
_AT_ONCE = 8  # frames in one pass
_UNUSABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)

StructureMode = Literal["right", "official"]
Features = Callable[[Frames], Tensor]


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


class Networks:
    """The networks by their roles, each loaded once.

    places: hub ids or folders (LPIPS: safetensors files) that replace the defaults.
    structure_mode: "official" feeds the structure network values from 0 to 255, as PIE-Bench's code
    does; "right" from 0 to 1, as it was trained.
    """

    def __init__(
        self,
        places: Mapping[str, str],
        *,
        device: torch.device | str = "cpu",
        structure_mode: StructureMode = "right",
    ) -> None:
        for role in places.keys() - ROLES.keys():
            raise InputError(f"there is no network {role}; known are {', '.join(ROLES)}")
        self.places = {name: places.get(name, role.default) for name, role in ROLES.items()}
        self.structure_mode = structure_mode
        self.missing: dict[str, str] = {}
        self.identities: dict[str, str] = {}
        self._device = torch.device(device)
        self._loaded: dict[str, transformers.PreTrainedModel] = {}
        self._tokenizers: dict[str, transformers.CLIPTokenizer] = {}
        self._kept: dict[tuple[str, int], Tensor] = {}

    def name(self, role: str) -> str:
        """What a measurement says that it was made with."""
        mode = f" ({self.structure_mode})" if role == "structure" else ""
        return f"{self.places[role]}{mode}"

    def has(self, role: str) -> bool:
        """Whether a network is there; why it is not stands in `missing`."""
        try:
            self._network(role)
        except MissingNetworkError:
            return False
        return True

    def require(self, role: str) -> None:
        """InputError where a network is not there that nothing goes without."""
        try:
            self._kept_network(role)
        except MissingNetworkError as error:
            raise InputError(str(error)) from None

    @torch.no_grad()
    def clip_pictures(self, role: str, frames: Frames) -> Tensor:
        """CLIP's features (n, channels) of frames."""
        network = self._network(role)

        def features(part: Frames) -> Tensor:
            side = network.config.vision_config.image_size
            pixels = cropped(part, side, side, Image.Resampling.BICUBIC)
            found = network.get_image_features(normalised(pixels, CLIP).to(self._device))
            return found if isinstance(found, Tensor) else found.pooler_output

        return self._features(role, frames, features)

    @torch.no_grad()
    def clip_text(self, role: str, text: str) -> Tensor:
        """CLIP's features (1, channels) of a text, which is cut where CLIP ends."""
        network = self._network(role)
        tokens = self._tokenizers[role](text, truncation=True, return_tensors="pt")
        found = network.get_text_features(**tokens.to(self._device))
        return (found if isinstance(found, Tensor) else found.pooler_output).float().cpu()

    @torch.no_grad()
    def dino(self, frames: Frames) -> Tensor:
        """DINO's features (n, channels) of frames: its first token behind the last layer."""
        network = self._network("dino")

        def features(part: Frames) -> Tensor:
            side = network.config.image_size
            # As trained and evaluated: 256 pixels, of which 224.
            pixels = cropped(part, round(side * 256 / 224), side, Image.Resampling.BICUBIC)
            found = network(normalised(pixels, IMAGENET).to(self._device))
            first: Tensor = found.last_hidden_state[:, 0]
            return first

        return self._features("dino", frames, features)

    @torch.no_grad()
    def keys(self, frames: Frames) -> Tensor:
        """Keys (n, tokens, channels) of the structure network's last block, all heads joined."""
        network = self._network("structure")
        names = ("k_proj", "attention.key")
        last = [part for name, part in network.named_modules() if name.endswith(names)][-1]

        def features(part: Frames) -> Tensor:
            found: list[Tensor] = []
            handle = last.register_forward_hook(lambda *given: found.append(given[2]))
            try:
                pixels = self._structure_pixels(part, network.config.image_size)
                network(pixels.to(self._device), interpolate_pos_encoding=True)
            finally:
                handle.remove()
            return found[0]

        return self._features(f"structure {self.structure_mode}", frames, features, at_once=1)

    def _structure_pixels(self, frames: Frames, side: int) -> Tensor:
        """The shorter side at `side`, bilinear without smoothing, as torchvision 0.13 resized
        tensors, with which PIE-Bench's figures were made; the longer one at most 480.
        """
        scale = 1 if self.structure_mode == "official" else 255
        height, width = frames.shape[1:3]
        short, long = min(width, height), max(width, height)
        small, large = side, int(side * long / short)
        if large > 480 * side // 224:
            small, large = int(small * (480 * side // 224) / large), 480 * side // 224
        size = (small, large) if height < width else (large, small)
        pixels = normalised(frames, IMAGENET, scale=scale)
        return interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=False)

    @torch.no_grad()
    def lpips(self, role: str, frames: Frames, others: Frames) -> Tensor:
        """LPIPS (n,) of frames beside others (see `Lpips`)."""
        network = self._network(role)
        one, other = (
            torch.from_numpy(x / np.float32(255)).movedim(-1, 1).to(self._device)
            for x in (frames, others)
        )
        return torch.cat([network(a[None], b[None]).cpu() for a, b in zip(one, other, strict=True)])

    @torch.no_grad()
    def logits(self, frames: Frames) -> Tensor:
        """The classifier's logits (n, classes)."""
        network = self._network("classifier")
        side = network.config.image_size
        pixels = cropped(frames, side, side, Image.Resampling.BILINEAR)
        logits: Tensor = network(normalised(pixels, IMAGENET).to(self._device)).logits
        return logits.float().cpu()

    def labels(self) -> dict[int, str]:
        """The names of the classifier's classes, such as "tabby, tabby cat"."""
        return dict(self._network("classifier").config.id2label)

    @torch.no_grad()
    def pooled(self, frames: Frames) -> Tensor:
        """The features (n, channels) that SFID compares, of pictures of 256 pixels a side."""
        network = self._network("features")
        pixels = cropped(frames, 256, 256, Image.Resampling.BILINEAR)
        found: Tensor = network(normalised(pixels, IMAGENET).to(self._device)).pooler_output
        return found.flatten(1).float().cpu()

    def _features(
        self, name: str, frames: Frames, features: Features, *, at_once: int = _AT_ONCE
    ) -> Tensor:
        """Features of frames, those of the last few clips kept: many measures ask for the same."""
        key = (name, zlib.crc32(np.ascontiguousarray(frames).data, frames.shape[1]))
        if key not in self._kept:
            parts = [
                features(frames[first : first + at_once]).float().cpu()
                for first in range(0, len(frames), at_once)
            ]
            while len(self._kept) >= 8:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = torch.cat(parts)
        return self._kept[key]

    def _network(self, role: str) -> transformers.PreTrainedModel:
        if role in self.missing:
            raise MissingNetworkError(self.missing[role])
        try:
            return self._kept_network(role)
        except MissingNetworkError as error:
            self.missing[role] = str(error)
            raise

    def _kept_network(self, role: str) -> transformers.PreTrainedModel:
        if role not in self._loaded:
            network = self._load(role).eval().requires_grad_(False).to(self._device)
            self.identities[role] = fingerprint.of_tensors(network.state_dict().items())
            self._loaded[role] = network
        return self._loaded[role]

    def _load(self, role: str) -> nn.Module:
        place = self.places[role]
        if place is None or place == NONE:
            raise MissingNetworkError(not_given(role, place))
        remedy = "give another"
        try:
            if role.startswith("lpips"):
                return _load_lpips(role, Path(place).expanduser())
            local = Path(place).expanduser()
            options = {} if local.is_dir() else reach_hub({})
            where = str(local) if local.is_dir() else place
            if options:  # Else the library would knock again and again for what is not kept.
                remedy = "connect to the network, or give a folder of it"
                _check_kept(place)
            load = _LOADERS.get(role, transformers.AutoModel.from_pretrained)
            network = load(where, use_safetensors=True, **options)
            if role.startswith("clip"):
                tokenizer = transformers.CLIPTokenizer.from_pretrained(where, **options)
                self._tokenizers[role] = tokenizer
        except _UNUSABLE as error:
            reason = " ".join(str(error).split()).split(". ")[0][:200]
            raise MissingNetworkError(
                f"the network {role} ({ROLES[role].text}) cannot be loaded from {place}: "
                f"{reason.rstrip('.')}; {remedy}, --network {role}={ROLES[role].form}"
            ) from None
        loaded: nn.Module = network
        return loaded


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
