"""What a grid's results are measured by: the model itself, or networks that are given."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.evaluation import feature_metrics
from pnpvideo.grid.own_measures import OwnMeasures
from pnpvideo.models.prompt import PromptEmbeddings

ROLES = {"structure": "DINO", "clip": "CLIP"}
"""The networks that can be given, by their roles in `Networks`."""


class Sight(Protocol):
    """What is asked of `Networks`, which need the extra `[eval]`."""

    def name(self, role: str) -> str: ...

    def keys(self, frames: Frames) -> Tensor: ...

    def clip_pictures(self, role: str, frames: Frames) -> Tensor: ...

    def clip_text(self, role: str, text: str) -> Tensor: ...


class Judge:
    """places: hub ids or folders of networks by role; what has none the model measures itself.

    InputError for a role that there is not, or a network that cannot be loaded.
    """

    def __init__(self, places: Mapping[str, str], device: torch.device) -> None:
        for role in places.keys() - ROLES.keys():
            raise InputError(f"a grid has no use for a network {role}; give {' or '.join(ROLES)}")
        self._by: dict[str, Sight] = {}
        if places:
            from pnpvideo.evaluation.networks import Networks

            networks = Networks(places, device=device)
            for role in places:
                networks.require(role)
                self._by[role] = networks

    @property
    def structure_name(self) -> str:
        if "structure" in self._by:
            return f"structure distance by {self._by['structure'].name('structure')}"
        return "structure distance by the model's own features"

    @property
    def text_name(self) -> str:
        if "clip" in self._by:
            return f"similarity to the text by {self._by['clip'].name('clip')}"
        return "how well the text explains the result to the model itself"

    def structure(
        self, own: OwnMeasures, results: tuple[Tensor, Frames], source: tuple[Tensor, Frames]
    ) -> float:
        """How far the structure of a result is from its source's, 0 where alike.

        Both as clean latents (n, c, h, w) and as frames.
        """
        network = self._by.get("structure")
        if network is None:
            return own.structure(results[0], source[0])
        keys = (network.keys(frames) for frames in (results[1], source[1]))
        return float(feature_metrics.structure_distance(*keys).mean())

    def text(
        self,
        own: OwnMeasures,
        results: tuple[Tensor, Frames],
        prompt: str,
        embedded: PromptEmbeddings,
    ) -> float:
        """How far a result follows its prompt; more is better."""
        network = self._by.get("clip")
        if network is None:
            return own.text(results[0], embedded)
        pictures = network.clip_pictures("clip", results[1])
        text = network.clip_text("clip", prompt)
        return float(feature_metrics.similarity(pictures, text).mean())
