"""A cache of cross-attention keys and values: made once a run, not at every step and frame."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor

from pnpvideo.models.network import UNetNetwork
from pnpvideo.models.prompt import PromptEmbeddings


@contextmanager
def text_cache(network: UNetNetwork) -> Iterator[None]:
    """Run each layer that reads only the text once for each text, within the context.

    Texts are distinguished by the object that holds them.
    """
    with ExitStack() as stack:
        for projection in network.text_projections:
            cached = _CachedProjection(network)
            stack.enter_context(projection.changed(cached.enter, cached.leave))
        yield


class _CachedProjection:
    """A cache of one layer's output for each text, which is the same at every step."""

    def __init__(self, network: UNetNetwork) -> None:
        self.network = network
        # The texts are held, so that no other object comes to have the identity of one.
        self.made: dict[int, tuple[PromptEmbeddings, Tensor]] = {}

    def enter(self, tensor: Tensor) -> Tensor:
        batch = self.network.batch
        if batch is None:
            return tensor
        return tensor[:0] if id(batch.texts) in self.made else tensor[:: batch.piece_count]

    def leave(self, output: Tensor) -> Tensor:
        batch = self.network.batch
        if batch is None:
            return output
        _, made = self.made.setdefault(id(batch.texts), (batch.texts, output))
        return made.repeat_interleave(batch.piece_count, dim=0)
