"""Self-attention with the queries and keys of the source, and with the tokens of keyframes."""

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
from pnpvideo.sampling.rows import by_branch, rows_of


class FrameAttention:
    """The computation of one self-attention layer, with injection and with shared keyframes.

    Injection (Tumanyan et al. 2022, equation 3 and section 4.2): A = softmax(q k^T / sqrt(d)) of
    the source, with each branch's values.

    Sharing (Geyer et al. 2023): keyframes attend to all tokens of their pass. Then the frames
    between them attend to their own and their two keyframes' tokens ("extended"), or take their
    two keyframes' attention outputs ("propagate"). With injection all queries and keys are the
    source's. The source branch never shares: the injected features are those of each frame by
    itself. (The authors' code does so for keyframes; for other frames it propagates the source
    branch like the rest.)

    injects: whether the layer takes the source's queries and keys. shares: whether its frames share
    keyframes' tokens.
    """

    def __init__(
        self, network: Network, layer: SelfAttention, *, injects: bool, shares: bool
    ) -> None:
        self.network = network
        self.layer = layer
        self.injects = injects
        self.shares = shares
        self.kept: dict[int, tuple[Tensor, ...]] = {}
        """Keys and values ("extended"), or the output, of each keyframe: (branches, tokens, c)."""

    def compute(self, tokens: Tensor) -> Tensor:
        """Return the output (rows, tokens, channels) for the batch the network is running."""
        batch = self.network.batch
        if not isinstance(batch, InjectedBatch):
            return self._attend(self.layer.query(tokens), self.layer.key(tokens), tokens)
        if self.shares and batch.sharing is not None:
            if batch.sharing.takes_outputs:
                return self._take_outputs(tokens, batch, batch.sharing)
            return self._attend_to_keyframes(tokens, batch, batch.sharing)
        return self._attend(*self._queries_and_keys(tokens, batch), tokens)

    def _queries_and_keys(self, tokens: Tensor, batch: InjectedBatch) -> tuple[Tensor, Tensor]:
        """Return all branches' queries and keys or, if they are injected, the source's alone."""
        layer = self.layer
        if not self.injects or not batch.attention:
            return layer.query(tokens), layer.key(tokens)
        if not batch.with_source:
            return batch.reading.queries[layer], batch.reading.keys[layer]
        source = tokens[: batch.source_rows]
        return layer.query(source), layer.key(source)

    def _attend(self, query: Tensor, key: Tensor, tokens: Tensor) -> Tensor:
        """Compute each frame's attention alone, with these queries and keys."""
        layer = self.layer
        return layer.project(attend_alike(query, key, layer.value(tokens), layer.heads))

    def _take_outputs(self, tokens: Tensor, batch: InjectedBatch, sharing: Sharing) -> Tensor:
        before, after = (self._of_keyframes(side, 0) for side in sharing.frame_pass.sides)
        matches = sharing.matches[tokens.shape[1]]
        target = propagate(before, after, matches, sharing.weights)
        target = rows_of(target)
        if not batch.with_source:
            return target
        layer, source = self.layer, tokens[: batch.source_rows]
        qkv = (layer.query(source), layer.key(source), layer.value(source))
        plain = attend(*(split_heads(x, layer.heads) for x in qkv))
        return torch.cat([layer.project(plain), target])

    def _attend_to_keyframes(
        self, tokens: Tensor, batch: InjectedBatch, sharing: Sharing
    ) -> Tensor:
        layer, frame_pass, frames = self.layer, sharing.frame_pass, batch.piece_count
        # If they are injected, one branch of queries and keys: the source's.
        inject, own = self.injects and batch.attention, int(batch.with_source)
        query, key = self._queries_and_keys(tokens, batch)
        query, key, value = (by_branch(x, frames) for x in (query, key, layer.value(tokens)))
        outputs = []
        if own:
            outputs.append(attend_with_context(query[:1], key[:1], value[:1], (), layer.heads))
        if not inject:
            query, key = query[own:], key[own:]
        value = value[own:]
        if frame_pass.role == "keyframes":
            outputs.append(attend_jointly(query, key, value, layer.heads))
        else:
            sides = frame_pass.sides
            context = [(self._of_keyframes(s, 0), self._of_keyframes(s, 1)) for s in sides]
            outputs.append(attend_with_context(query, key, value, context, layer.heads))
        result = layer.project(rows_of(torch.cat(outputs)))
        if frame_pass.role == "keyframes":
            output = by_branch(result, frames)[own:]
            self._keep(frame_pass, (output,) if sharing.mode == "propagate" else (key, value))
        return result

    def _keep(self, frame_pass: Pass, tensors: tuple[Tensor, ...]) -> None:
        """Keep each keyframe's part of tensors (branches, frames, tokens, c); drop old ones."""
        self.kept = {frame: self.kept[frame] for frame in frame_pass.kept}
        for i, frame in enumerate(frame_pass.frames):
            # Copies, as a view would keep the whole batch in memory.
            self.kept[frame] = tuple(x[:, i].clone() for x in tensors)

    def _of_keyframes(self, keyframes: Sequence[int], part: int) -> Tensor:
        """Return one of the tensors kept of keyframes, stacked: (branches, frames, tokens, c)."""
        return torch.stack([self.kept[keyframe][part] for keyframe in keyframes], dim=1)
