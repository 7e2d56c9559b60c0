"""The judge of a grid's results: the model itself, or given networks."""

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
    """The used part of `Networks`, which need the extra `[eval]`."""

    def name(self, role: str) -> str: ...

    def keys(self, frames: Frames) -> Tensor: ...

    def clip_pictures(self, role: str, frames: Frames) -> Tensor: ...

    def clip_text(self, role: str, text: str) -> Tensor: ...


class Judge:
    """A judge of results by networks, or by the model for roles without a network.

    places: hub ids or folders of networks by role. Raises InputError if a role is unknown or a
    network cannot be loaded.
    """

    def __init__(self, places: Mapping[str, str], device: torch.device) -> None:
        for role in places.keys() - ROLES.keys():
            raise InputError(f"a grid does not use the network {role}; give {' or '.join(ROLES)}")
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
        """Return the distance of a result's structure from its source's, 0 if equal.

        Both are given as clean latents (n, c, h, w) and as frames.
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
        """Return how well a result follows its prompt; more is better."""
        network = self._by.get("clip")
        if network is None:
            return own.text(results[0], embedded)
        pictures = network.clip_pictures("clip", results[1])
        text = network.clip_text("clip", prompt)
        return float(feature_metrics.similarity(pictures, text).mean())
