"""A self-attention layer's computation with the source's queries and keys, and with keyframes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pnpvideo.models.network import Network, SelfAttention
from pnpvideo.sampling.attend import (
    attend,
    attend_alike,
    attend_jointly,
    attend_with_context,
    propagate,
    split_heads,
)
from pnpvideo.sampling.passes import InjectedBatch, Pass, Sharing


class FrameAttention:
    """Computes a layer's output: injects queries and keys, and shares keyframes' tokens.

    Injection (Tumanyan et al. 2022, equation 3 and section 4.2): A = softmax(q k^T / sqrt(d)) of
    the source, with each branch's values.

    Sharing (Geyer et al. 2023): keyframes attend to all tokens of their pass. Then the frames
    between them attend to their own and their two keyframes' tokens ("extended"), or take their
    two keyframes' attention outputs ("propagate"). With injection all queries and keys are the
    source's. The source branch never shares: its features are those of the frame by itself, which
    is what gets injected. (So in the authors' code for keyframes; other frames' source branches
    it propagates like the rest.)

    injects, shares: what this layer is there for.
    """

    def __init__(
        self, network: Network, layer: SelfAttention, *, injects: bool, shares: bool
    ) -> None:
        self.network = network
        self.layer = layer
        self.injects = injects
        self.shares = shares
        self.kept: dict[int, tuple[Tensor, ...]] = {}
        """By keyframe: its keys and values ("extended") or its output, (branches, tokens, c)."""

    def compute(self, tokens: Tensor) -> Tensor:
        """The output (batch, tokens, channels) in the network's pass that is under way."""
        batch = self.network.batch
        if not isinstance(batch, InjectedBatch):
            return self._attend(tokens, tokens)
        if self.shares and batch.sharing is not None:
            if batch.sharing.takes_outputs:
                return self._take_outputs(tokens, batch, batch.sharing)
            return self._attend_to_keyframes(tokens, batch, batch.sharing)
        injects = self.injects and batch.attention
        return self._attend(tokens[: batch.frame_count] if injects else tokens, tokens)

    def _attend(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Each frame by itself, with the queries and keys of `source`."""
        layer = self.layer
        query, key, value = layer.query(source), layer.key(source), layer.value(tokens)
        return layer.project(attend_alike(query, key, value, layer.heads))

    def _take_outputs(self, tokens: Tensor, batch: InjectedBatch, sharing: Sharing) -> Tensor:
        before, after = (self._of_keyframes(side, 0) for side in sharing.work.sides)
        matches = sharing.matches[tokens.shape[1]]
        target = propagate(before, after, matches, sharing.weights).flatten(0, 1)
        if not batch.with_source:
            return target
        layer, source = self.layer, tokens[: batch.source_rows]
        qkv = (layer.query(source), layer.key(source), layer.value(source))
        plain = attend(*(split_heads(x, layer.heads) for x in qkv))
        return torch.cat([layer.project(plain), target])

    def _attend_to_keyframes(
        self, tokens: Tensor, batch: InjectedBatch, sharing: Sharing
    ) -> Tensor:
        layer, work, frames = self.layer, sharing.work, batch.frame_count
        # One branch of queries and keys, the source's, where they are injected.
        inject, own = self.injects and batch.attention, int(batch.with_source)
        source = tokens[:frames] if inject else tokens
        query, key, value = (
            _by_branch(x, frames)
            for x in (layer.query(source), layer.key(source), layer.value(tokens))
        )
        outputs = []
        if own:
            outputs.append(attend_with_context(query[:1], key[:1], value[:1], (), layer.heads))
        if not inject:
            query, key = query[own:], key[own:]
        value = value[own:]
        if work.role == "keyframes":
            outputs.append(attend_jointly(query, key, value, layer.heads))
        else:
            sides = work.sides
            context = [(self._of_keyframes(s, 0), self._of_keyframes(s, 1)) for s in sides]
            outputs.append(attend_with_context(query, key, value, context, layer.heads))
        result = layer.project(torch.cat(outputs).flatten(0, 1))
        if work.role == "keyframes":
            output = _by_branch(result, frames)[own:]
            self._keep(work, (output,) if sharing.mode == "propagate" else (key, value))
        return result

    def _keep(self, work: Pass, tensors: tuple[Tensor, ...]) -> None:
        """Keep each keyframe's part of tensors (branches, frames, tokens, c); forget old ones."""
        self.kept = {frame: self.kept[frame] for frame in work.kept}
        for i, frame in enumerate(work.frames):
            # Copies: a part would keep all of the batch in memory.
            self.kept[frame] = tuple(x[:, i].clone() for x in tensors)

    def _of_keyframes(self, keyframes: Sequence[int], part: int) -> Tensor:
        """One of the tensors kept of keyframes, side by side: (branches, frames, tokens, c)."""
        return torch.stack([self.kept[keyframe][part] for keyframe in keyframes], dim=1)


def _by_branch(tokens: Tensor, frames: int) -> Tensor:
    """(branches * frames, tokens, channels) to (branches, frames, tokens, channels)."""
    return tokens.view(-1, frames, *tokens.shape[1:])
