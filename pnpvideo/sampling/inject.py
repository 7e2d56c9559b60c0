"""The injector: puts the source's features, queries and keys into the target's passes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.network import Batch, InjectionLayers, Network, SelfAttention, Stretch
from pnpvideo.sampling.frame_attention import FrameAttention
from pnpvideo.sampling.passes import Features, InjectedBatch

Predict = Callable[[InjectedBatch], Tensor]
"""The network's output for the targets of a batch: its rows but the source's."""


class FeatureInjector:
    """Injects into one network, between entering and leaving `installed()`."""

    def __init__(self, network: Network, layers: InjectionLayers) -> None:
        self.network = network
        self.blocks = [network.feature(name) for name in layers.features]
        self.attentions: list[SelfAttention] = []
        for place in layers.attentions:
            found = network.attentions(place)
            if not found:
                raise InputError(f"{place!r} holds no self-attention to inject into")
            self.attentions += [layer for layer in found if layer not in self.attentions]
        self.shared: list[SelfAttention] = []
        for place in layers.shared:
            found = network.attentions(place)
            self.shared += [layer for layer in found if layer not in self.shared]
        self._shares: bool | None = None  # None: not installed.

    @contextmanager
    def installed(self, *, sharing: bool = False) -> Iterator[None]:
        """Change the network within; on leaving, it is exactly as it was.

        sharing: frames are to share attention, too. Without it no other layers are touched.
        """
        if self._shares is not None:
            raise RuntimeError("this injector is installed already")
        self._shares = sharing
        layers = list(self.attentions)
        if sharing:
            layers += [layer for layer in self.shared if layer not in layers]
        try:
            with ExitStack() as stack:
                for layer in layers:
                    injects, shares = layer in self.attentions, sharing and layer in self.shared
                    attention = FrameAttention(self.network, layer, injects=injects, shares=shares)
                    stack.enter_context(layer.replaced(attention.compute))
                for block in self.blocks:
                    feature = _InjectedFeature(self.network, block)
                    stack.enter_context(block.changed(feature.enter, feature.leave))
                yield
        finally:
            self._shares = None

    def predict(self, batch: InjectedBatch) -> Tensor:
        """See `Predict`."""
        if batch.sharing is not None and not self._shares:
            raise RuntimeError("this injector is not installed for sharing")
        return self.network.predict(batch)[batch.source_rows :]

    def reads_attention(self, batch: InjectedBatch) -> bool:
        """Whether a layer reads the source's queries and keys in this batch.

        None does where all that inject take keyframes' outputs instead.
        """
        if batch.sharing is None or not batch.sharing.takes_outputs:
            return batch.attention
        return batch.attention and any(layer not in self.shared for layer in self.attentions)

    def make_features(self, source: Batch) -> Features:
        """The features of a batch of source frames, in a pass that ends right after the last."""
        made: dict[Stretch, Tensor] = {}

        def keep(block: Stretch, output: Tensor) -> Tensor:
            made[block] = output
            if len(made) == len(self.blocks):
                raise _AllMadeError
            return output

        with ExitStack() as stack:
            for block in self.blocks:
                stack.enter_context(block.changed(_unchanged, partial(keep, block)))
            with suppress(_AllMadeError):
                self.network.predict(source)
        return made


class _AllMadeError(Exception):
    """Ends a pass of the source at the last feature that it is needed for."""


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


class _InjectedFeature:
    """The source's feature, in place of every branch's, in one block.

    What a block adds to its input is the source's for all branches: so in the block, from its
    first norm to its second convolution, there are only the source's frames.
    """

    def __init__(self, network: Network, block: Stretch) -> None:
        self.network = network
        self.block = block
        self.rows = 0

    def enter(self, tensor: Tensor) -> Tensor:
        batch = self.network.batch
        if not isinstance(batch, InjectedBatch) or not batch.features:
            return tensor
        self.rows = len(tensor)
        return tensor[: batch.source_rows]

    def leave(self, output: Tensor) -> Tensor:
        batch = self.network.batch
        if not isinstance(batch, InjectedBatch) or not batch.features:
            return output
        source = output if batch.with_source else batch.made[self.block]
        return source.repeat(self.rows // len(source), 1, 1, 1)
