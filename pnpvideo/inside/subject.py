"""A model with one or several inverted sources to visualize, and the pictures made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.models.model import Model
from pnpvideo.models.network import Network
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.latents import decode
from pnpvideo.stages.prompts import embed_source_prompt
from pnpvideo.stages.source import Source


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Inverted sources of one model, all under the same text. names: one for each source."""

    edits: tuple[OpenEdit, ...]
    names: tuple[str, ...]
    options: PnPOptions
    batch_size: int

    @property
    def model(self) -> Model:
        return self.edits[0].model

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(opened.source for opened in self.edits)

    @contextmanager
    def network(self) -> Iterator[Network]:
        """Open the model's network, which follows no ControlNet."""
        with self.model.network() as network:
            yield network

    @contextmanager
    def network_of(self, opened: OpenEdit) -> Iterator[Network]:
        """Open the network that a source was inverted with."""
        with self.model.network(opened.control) as network:
            yield network

    @property
    def text(self) -> PromptEmbeddings:
        """The embedding of the text that the sources were inverted under."""
        return embed_source_prompt(self.model, self.sources[0].trajectory.prompt, self.options)

    def steps(self, shares: tuple[float, ...]) -> list[int]:
        """Return the sampling steps at shares of all: 0 is the first, 1 the last, ascending."""
        return sorted({round(share * (self.options.steps - 1)) for share in shares})

    def level_name(self, step: int) -> str:
        return f"t = {self.sources[0].trajectory.timesteps[step]:g}"

    def decoded(self, latents: Tensor, source: Source) -> Frames:
        """Decode latents of a source, (pieces, c, h, w), to pictures (n, height, width, 3)."""
        return np.concatenate(list(decode(self.model, latents, self.batch_size, source.held)))

    def frames(self, source: Source) -> Frames:
        """Return all frames of a source at the working size."""
        return np.concatenate(list(source.frames(self.batch_size)))


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One kind of picture of all frames of all sources.

    row, column: its names, and so its place on a sheet. pictures: by source.
    """

    row: str
    column: str
    pictures: tuple[Frames, ...]
