"""What is looked into, a model and one or several inverted sources; and what is seen of them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.models.network import Network
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages.source import Source


@dataclass(frozen=True, kw_only=True)
class Subject:
    """names: one for each source. All sources are inverted, under the same text."""

    pipeline: PnPVideoPipeline
    sources: tuple[Source, ...]
    names: tuple[str, ...]
    options: PnPOptions
    batch_size: int

    @property
    def network(self) -> Network:
        """The model's, which follows no ControlNet."""
        return self.pipeline.network()

    def network_of(self, source: Source) -> Network:
        """The one that a source was inverted with."""
        size = self.batch_size
        return self.pipeline.network(
            self.pipeline.find_control(source, self.options, batch_size=size)
        )

    @property
    def text(self) -> PromptEmbeddings:
        """The one that the sources were inverted under."""
        return self.pipeline.encode_source(self.sources[0].trajectory.prompt, self.options)

    def steps(self, shares: tuple[float, ...]) -> list[int]:
        """The sampling steps at shares of all, 0 being the first and 1 the last, ascending."""
        return sorted({round(share * (self.options.steps - 1)) for share in shares})

    def level_name(self, step: int) -> str:
        return f"t = {self.sources[0].trajectory.timesteps[step]:g}"

    def decoded(self, latents: Tensor) -> Frames:
        """Latents (n, c, h, w) as pictures (n, height, width, 3)."""
        return np.concatenate(list(self.pipeline.decode(latents, self.batch_size)))

    def frames(self, source: Source) -> Frames:
        """All of a source at the working size."""
        return np.concatenate(list(source.frames(self.batch_size)))


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One kind of picture of all frames of all sources.

    row, column: what it is named for, and so where it stands on a sheet. pictures: by source.
    """

    row: str
    column: str
    pictures: tuple[Frames, ...]
