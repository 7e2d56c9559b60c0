"""The networks for measures, each loaded on first use, and their inputs."""

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
from pnpvideo.evaluation.prepare import CLIP, IMAGENET, normalised, resized_and_cropped
from pnpvideo.storage import fingerprint

_BATCH_SIZE = 8  # frames in one pass

StructureMode = Literal["right", "official"]
Features = Callable[[Frames], Tensor]


class Networks:
    """The networks by role, each loaded once.

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
            raise InputError(f"there is no network {role}; give one of {', '.join(ROLES)}")
        self.places = {name: places.get(name, role.default) for name, role in ROLES.items()}
        self.structure_mode = structure_mode
        self.missing: dict[str, str] = {}
        self.identities: dict[str, str] = {}
        self._device = torch.device(device)
        self._loaded: dict[str, transformers.PreTrainedModel] = {}
        self._tokenizers: dict[str, transformers.CLIPTokenizer] = {}
        self._cache: dict[tuple[str, int], Tensor] = {}

    def name(self, role: str) -> str:
        """Return the name of a network that is stored with its measurements."""
        mode = f" ({self.structure_mode})" if role == "structure" else ""
        return f"{self.places[role]}{mode}"

    def has(self, role: str) -> bool:
        """Return whether a network is available; if not, `missing` has the reason."""
        try:
            self._network(role)
        except MissingNetworkError:
            return False
        return True

    def require(self, role: str) -> None:
        """Raise InputError if a required network is not available."""
        try:
            self._loaded_network(role)
        except MissingNetworkError as error:
            raise InputError(str(error)) from None

    @torch.no_grad()
    def clip_pictures(self, role: str, frames: Frames) -> Tensor:
        """Return CLIP's features (n, channels) of frames."""
        network = self._network(role)

        def features(batch: Frames) -> Tensor:
            side = network.config.vision_config.image_size
            pixels = resized_and_cropped(batch, side, side, Image.Resampling.BICUBIC)
            output = network.get_image_features(normalised(pixels, CLIP).to(self._device))
            return output if isinstance(output, Tensor) else output.pooler_output

        return self._features(role, frames, features)

    @torch.no_grad()
    def clip_text(self, role: str, text: str) -> Tensor:
        """Return CLIP's features (1, channels) of a text, truncated to CLIP's length."""
        network = self._network(role)
        tokens = self._tokenizers[role](text, truncation=True, return_tensors="pt")
        output = network.get_text_features(**tokens.to(self._device))
        return (output if isinstance(output, Tensor) else output.pooler_output).float().cpu()

    @torch.no_grad()
    def dino(self, frames: Frames) -> Tensor:
        """Return DINO's features (n, channels) of frames: the first token after the last layer."""
        network = self._network("dino")

        def features(batch: Frames) -> Tensor:
            side = network.config.image_size
            # As in training and evaluation: 256 pixels, cropped to 224.
            pixels = resized_and_cropped(
                batch, round(side * 256 / 224), side, Image.Resampling.BICUBIC
            )
            output = network(normalised(pixels, IMAGENET).to(self._device))
            first: Tensor = output.last_hidden_state[:, 0]
            return first

        return self._features("dino", frames, features)

    @torch.no_grad()
    def keys(self, frames: Frames) -> Tensor:
        """Return the keys (n, tokens, channels) of the structure network's last block."""
        network = self._network("structure")
        names = ("k_proj", "attention.key")
        last = [module for name, module in network.named_modules() if name.endswith(names)][-1]

        def features(batch: Frames) -> Tensor:
            outputs: list[Tensor] = []
            handle = last.register_forward_hook(lambda *arguments: outputs.append(arguments[2]))
            try:
                pixels = self._structure_pixels(batch, network.config.image_size)
                network(pixels.to(self._device), interpolate_pos_encoding=True)
            finally:
                handle.remove()
            return outputs[0]

        return self._features(f"structure {self.structure_mode}", frames, features, at_once=1)

    def _structure_pixels(self, frames: Frames, side: int) -> Tensor:
        """Return pixels (n, 3, h, w) with the shorter side at `side`, and the longer at most 480.

        Bilinear without antialiasing, as torchvision 0.13 resized tensors for PIE-Bench's figures.
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
        """Return LPIPS (n,) between frames and others (see `Lpips`)."""
        network = self._network(role)
        pictures, other_pictures = (
            torch.from_numpy(x / np.float32(255)).movedim(-1, 1).to(self._device)
            for x in (frames, others)
        )
        return torch.cat(
            [network(a[None], b[None]).cpu() for a, b in zip(pictures, other_pictures, strict=True)]
        )

    @torch.no_grad()
    def logits(self, frames: Frames) -> Tensor:
        """Return the classifier's logits (n, classes)."""
        network = self._network("classifier")
        side = network.config.image_size
        pixels = resized_and_cropped(frames, side, side, Image.Resampling.BILINEAR)
        logits: Tensor = network(normalised(pixels, IMAGENET).to(self._device)).logits
        return logits.float().cpu()

    def labels(self) -> dict[int, str]:
        """Return the names of the classifier's classes, such as "tabby, tabby cat"."""
        return dict(self._network("classifier").config.id2label)

    @torch.no_grad()
    def pooled(self, frames: Frames) -> Tensor:
        """Return SFID's features (n, channels), of pictures of 256 pixels a side."""
        network = self._network("features")
        pixels = resized_and_cropped(frames, 256, 256, Image.Resampling.BILINEAR)
        features: Tensor = network(normalised(pixels, IMAGENET).to(self._device)).pooler_output
        return features.flatten(1).float().cpu()

    def _features(
        self, name: str, frames: Frames, features: Features, *, at_once: int = _BATCH_SIZE
    ) -> Tensor:
        """Return features of frames, cached for the last few clips, as many measures share them."""
        key = (name, zlib.crc32(np.ascontiguousarray(frames).data, frames.shape[1]))
        if key not in self._cache:
            parts = [
                features(frames[first : first + at_once]).float().cpu()
                for first in range(0, len(frames), at_once)
            ]
            while len(self._cache) >= 8:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = torch.cat(parts)
        return self._cache[key]

    def _network(self, role: str) -> transformers.PreTrainedModel:
        if role in self.missing:
            raise MissingNetworkError(self.missing[role])
        try:
            return self._loaded_network(role)
        except MissingNetworkError as error:
            self.missing[role] = str(error)
            raise

    def _loaded_network(self, role: str) -> transformers.PreTrainedModel:
        if role not in self._loaded:
            network, tokenizer = load_network(role, self.places[role])
            network = network.eval().requires_grad_(False).to(self._device)
            if tokenizer is not None:
                self._tokenizers[role] = tokenizer
            self.identities[role] = fingerprint.of_tensors(network.state_dict().items())
            self._loaded[role] = network
        return self._loaded[role]
