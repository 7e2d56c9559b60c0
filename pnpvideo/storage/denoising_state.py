"""What a run that is started again needs to go on from the middle of denoising."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DenoisingState:
    """All that the rest of a run depends on, after some of its steps.

    steps: how many are done. latents: x_t, (prompts, frames, c, h, w). generator: its state.
    first: the number of the first frame, where the run is of a span of the clip.
    """

    steps: int
    latents: Tensor
    generator: Tensor
    first: int = 0

    @property
    def frames(self) -> slice:
        """The numbers of its frames."""
        return slice(self.first, self.first + self.latents.shape[1])
