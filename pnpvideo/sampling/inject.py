"""Injection: put the source's features, queries and keys into the target's passes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.network import (
    Batch,
    HookPoint,
    InjectionLayers,
    Network,
    PictureTokens,
    SelfAttention,
    is_transformer,
)
from pnpvideo.sampling.frame_attention import FrameAttention
from pnpvideo.sampling.passes import InjectedBatch
from pnpvideo.sampling.reading import Reading
from pnpvideo.sampling.rows import by_branch, repeat_rows, rows_of

Predict = Callable[[InjectedBatch], Tensor]
"""Returns the network's output for the targets of a batch: all rows except the source's."""


class FeatureInjector:
    """The injection into one network, active between entering and leaving `installed()`."""

    def __init__(self, network: Network, layers: InjectionLayers) -> None:
        self.network = network
        self.blocks = [network.feature(name) for name in layers.features]
        self.attentions: list[SelfAttention] = []
        for place in layers.attentions:
            found = network.attentions(place)
            if not found:
                raise InputError(f"{place!r} has no self-attention to inject into")
            self.attentions += [layer for layer in found if layer not in self.attentions]
        self.shared: list[SelfAttention] = []
        for place in layers.shared:
            found = network.attentions(place)
            self.shared += [layer for layer in found if layer not in self.shared]
        self.tokens: list[_InjectedTokens] = []
        if layers.blocks and is_transformer(network):
            self.tokens = [
                _InjectedTokens(network, network.tokens_of(block, kind), of_features=kind == "f")
                for block, kinds in layers.blocks
                for kind in kinds
            ]
        self._shares: bool | None = None  # None: not installed.

    @contextmanager
    def installed(self, *, sharing: bool = False) -> Iterator[None]:
        """Change the network within; on leaving, it is exactly as it was.

        sharing: whether frames also share attention. If not, no other layers are changed.
        """
        if self._shares is not None:
            raise RuntimeError("this injector is already installed")
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
                for tokens in self.tokens:
                    stack.enter_context(tokens.place.changed(tokens.leave))
                yield
        finally:
            self._shares = None

    def predict(self, batch: InjectedBatch) -> Tensor:
        """Run a batch; see `Predict`."""
        if batch.sharing is not None and not self._shares:
            raise RuntimeError("this injector is not installed for sharing")
        return self.network.predict(batch)[batch.source_rows :]

    def reads_attention(self, batch: InjectedBatch) -> bool:
        """Return whether a layer reads the source's queries, keys or values in this batch.

        None does if all layers that inject take the outputs of keyframes instead.
        """
        if not self.attentions:
            return batch.attention and not all(one.of_features for one in self.tokens)
        if batch.sharing is None or not batch.sharing.takes_outputs:
            return batch.attention
        return batch.attention and any(layer not in self.shared for layer in self.attentions)

    def read(self, source: Batch, *, features: bool, attention: bool) -> Reading:
        """Read a batch of source frames in a pass that ends after the last thing that is needed.

        features, attention: whether to read the features, and the queries, keys and values.
        """
        blocks = self.blocks if features else []
        layers = self.attentions if attention else []
        tokens = [one.place for one in self.tokens if (features if one.of_features else attention)]
        if not blocks and not layers and not tokens:
            return Reading()
        seen: dict[HookPoint | PictureTokens, Tensor] = {}
        queries: dict[SelfAttention, Tensor] = {}
        keys: dict[SelfAttention, Tensor] = {}

        def end_after_the_last() -> None:
            if len(seen) == len(blocks) + len(tokens) and len(keys) == len(layers):
                raise _AllReadError

        def see(block: HookPoint | PictureTokens, output: Tensor) -> Tensor:
            seen[block] = output
            end_after_the_last()
            return output

        def attend(layer: SelfAttention, tokens: Tensor) -> None:
            queries[layer], keys[layer] = layer.query(tokens), layer.key(tokens)
            end_after_the_last()

        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block.changed(_unchanged, partial(see, block)))
            for place in tokens:
                stack.enter_context(place.changed(partial(see, place)))
            for layer in layers:
                stack.enter_context(layer.watched(partial(attend, layer)))
            with suppress(_AllReadError):
                self.network.predict(source)
        return Reading(features=seen, queries=queries, keys=keys)


class _AllReadError(Exception):
    """The end of a pass of the source, raised at the last thing that is needed of it."""


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


class _InjectedFeature:
    """The injection of the source's feature into all branches, in one block.

    All branches add the source's residual to their input, so inside the block, from its first norm
    to its second convolution, only the source's rows are computed.
    """

    def __init__(self, network: Network, block: HookPoint) -> None:
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
        source = output if batch.with_source else batch.reading.features[self.block]
        return repeat_rows(source, self.rows // len(source))


class _InjectedTokens:
    """The source's picture tokens in one place of a transformer, in place of each prompt's own.

    Those of negative prompts stay their own, as in published code (LayerVerse, DirectEdit): the
    difference that guidance makes larger is then also one of what is injected.
    of_features: whether they count as features, and not as attention.
    """

    def __init__(self, network: Network, place: PictureTokens, *, of_features: bool) -> None:
        self.network, self.place, self.of_features = network, place, of_features

    def leave(self, tokens: Tensor) -> Tensor:
        batch = self.network.batch
        if not isinstance(batch, InjectedBatch):
            return tokens
        if not (batch.features if self.of_features else batch.attention):
            return tokens
        own, rest = tokens[: batch.source_rows], tokens[batch.source_rows :]
        source = own if batch.with_source else batch.reading.features[self.place]
        branches = by_branch(rest, batch.piece_count).clone()
        each = batch.branches_with_equal_latents
        branches[each - 1 :: each] = source.to(rest)
        return torch.cat([own, rows_of(branches)])
