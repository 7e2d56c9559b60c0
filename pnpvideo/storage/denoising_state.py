"""The state of a run in the middle of sampling, from which it can continue."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DenoisingState:
    """A snapshot of everything that the rest of a run depends on, after some of its steps.

    steps: how many are done. latents: x_t, (prompts, pieces, c, h, w). generator: its state.
    first: the number of the first piece, if the run is of a span of the clip. part: the pieces that
    took these steps, if the pieces before them have taken all, and those after them none; None: all
    have taken the same. velocities: what solver fireflow keeps, in the shape of the latents.
    """

    steps: int
    latents: Tensor
    generator: Tensor
    first: int = 0
    part: range | None = None
    velocities: Tensor | None = None

    @property
    def pieces(self) -> slice:
        """The numbers of its pieces."""
        _prompts, piece_count, *_piece = self.latents.shape
        return slice(self.first, self.first + piece_count)

    @property
    def under_way(self) -> range:
        """The numbers of the pieces that took these steps."""
        return self.part or range(self.pieces.start, self.pieces.stop)
