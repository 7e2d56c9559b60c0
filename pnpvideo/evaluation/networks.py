"""The networks that measure, each loaded when it is first asked for, and what they see."""

import zlib
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.evaluation.load_networks import ROLES, MissingNetworkError, load_network
from pnpvideo.evaluation.prepare import CLIP, IMAGENET, cropped, normalised
from pnpvideo.storage import fingerprint

_AT_ONCE = 8  # frames in one pass

StructureMode = Literal["right", "official"]
Features = Callable[[Frames], Tensor]


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
            network, tokenizer = load_network(role, self.places[role])
            network = network.eval().requires_grad_(False).to(self._device)
            if tokenizer is not None:
                self._tokenizers[role] = tokenizer
            self.identities[role] = fingerprint.of_tensors(network.state_dict().items())
            self._loaded[role] = network
        return self._loaded[role]
