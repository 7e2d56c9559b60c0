"""Self-attention of several frames: with the source's queries and keys, and with keyframes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.options.method import AttentionSharing
from pnpvideo.sampling.passes import Pass

# On a CPU, up to this size a map that all branches share is faster than fused attention on each:
# 14 ms against 35 ms for 3 branches of 4 frames of 1024 tokens; at 4096 tokens it is slower.
_MOST_TOKENS = 1500
_MAPS = 4  # at a time, so that they stay in the cache


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(batch, tokens, channels) to (batch, heads, tokens, channels / heads)."""
    return tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for every head, heads joined again.

    query, key, value: (batch, heads, tokens, d). Returns (batch, tokens, heads * d).
    """
    output = functional.scaled_dot_product_attention(query, key, value)
    return output.transpose(1, 2).flatten(2)


def attend_alike(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention of branches with the same queries and keys, and so the same attention maps.

    query, key: (frames, tokens, channels); value: (branches * frames, tokens, channels), as is the
    result.
    """
    branches, tokens = len(value) // len(query), query.shape[1]
    # Fused attention keeps half precision's maps in full precision.
    plain = query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64)
    if branches == 1 or tokens > _MOST_TOKENS or not plain:
        several = (query.repeat(branches, 1, 1), key.repeat(branches, 1, 1), value)
        return attend(*(split_heads(x, heads) for x in several))
    # One map, and the branches' values side by side.
    q, k = (split_heads(x, heads).flatten(0, 1) for x in (query, key))
    v = split_heads(value, heads).view(branches, len(query), heads, tokens, -1)
    v = v.permute(1, 2, 3, 0, 4).reshape(len(q), tokens, -1)
    parts = zip(*(torch.split(x, _MAPS) for x in (q, k, v)), strict=True)
    scale = q.shape[-1] ** -0.5
    output = torch.cat([(scale * q @ k.mT).softmax(-1) @ v for q, k, v in parts])
    output = output.view(len(query), heads, tokens, branches, -1).permute(3, 0, 2, 1, 4)
    return output.reshape(value.shape)


def attend_jointly(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Extended attention: every frame's queries attend to the tokens of all frames.

    The joint editing of keyframes by Geyer et al. 2023 (TokenFlow). value: (branches, frames,
    tokens, channels); query, key: the same, or of one branch that stands for all. Returns the
    shape of value.
    """
    # Queries do not see each other, so the frames' queries are as those of one large frame.
    flat = [x.expand_as(value).flatten(1, 2) for x in (query, key, value)]
    return attend(*(split_heads(x, heads) for x in flat)).view_as(value)


def attend_with_context(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    context: Sequence[tuple[Tensor, Tensor]],
    heads: int,
) -> Tensor:
    """Each frame's queries attend to its own tokens and to those of its context.

    value: (branches, frames, tokens, channels); query, key: the same, or of one branch for all.
    context: further keys and values in these shapes, for each frame its own. Returns the shape of
    value.
    """
    query = query.expand_as(value)
    values = torch.cat([value, *(v for _, v in context)], dim=2)
    keys = torch.cat([key, *(k for k, _ in context)], dim=2).expand_as(values)
    flat = [x.flatten(0, 1) for x in (query, keys, values)]
    return attend(*(split_heads(x, heads) for x in flat)).view_as(value)


def propagate(before: Tensor, after: Tensor, matches: Tensor, weights: Tensor) -> Tensor:
    """Attention outputs of the keyframes around each frame, moved to where its tokens match.

    The propagation of Geyer et al. 2023, but with weights that go from one keyframe to the next
    evenly: the sigmoid of theirs gives each keyframe a quarter or more of every frame.
    before, after: (branches, frames, tokens, channels), outputs of each frame's two keyframes.
    matches: (frames, 2, tokens), the nearest token of each (see `match_clip`).
    weights: (frames), share of the keyframe before, 0 to 1.
    """
    sides = []
    for side, output in enumerate((before, after)):
        index = matches[None, :, side, :, None].expand_as(output)
        sides.append(output.gather(2, index))
    share = weights.to(before.dtype).to(before.device)[None, :, None, None]
    return share * sides[0] + (1 - share) * sides[1]


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What a pass shares.

    mode: "extended" or "propagate". work: its frames and their role.
    matches: for "propagate" between keyframes: by the number of tokens of a layer, the indices
        (frames, 2, tokens) that `propagate` takes, on the network's device.
    """

    mode: AttentionSharing
    work: Pass
    matches: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def takes_outputs(self) -> bool:
        """Whether its frames take keyframes' outputs in place of attention of their own."""
        return self.mode == "propagate" and self.work.role == "between"

    @property
    def weights(self) -> Tensor:
        """The share of the keyframe before each frame, by distance: (frames)."""
        pairs = zip(self.work.frames, self.work.neighbours, strict=True)
        shares = [(after - frame) / (after - before) for frame, (before, after) in pairs]
        return torch.tensor(shares, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Running:
    """The pass of the network that is under way.

    frames: in each branch of the batch. source: the first branch is the source. alike: so many
    branches after one another have the same latents, and differ in their text alone. features,
    attention: what is injected from the source. keep: only its features are wanted, for another
    pass. sharing: None where frames are on their own.
    """

    frames: int = 0
    source: bool = False
    alike: int = 1
    features: bool = False
    attention: bool = False
    keep: bool = False
    sharing: Sharing | None = None


class FrameAttention:
    """Attention processor: injects the source's queries and keys, and shares keyframes' tokens.

    Injection (Tumanyan et al. 2022, equation 3 and section 4.2): A = softmax(q k^T / sqrt(d)) of
    the source, with each branch's values.

    Sharing (Geyer et al. 2023): keyframes attend to all tokens of their pass. Then the frames
    between them attend to their own and their two keyframes' tokens ("extended"), or take their
    two keyframes' attention outputs ("propagate"). With injection all queries and keys are the
    source's. The source branch never shares: its features are those of the frame by itself, which
    is what gets injected. (So in the authors' code for keyframes; other frames' source branches
    it propagates like the rest.)

    running: the pass under way. injects, shares: what this layer is there for.
    """

    def __init__(self, running: Callable[[], Running], *, injects: bool, shares: bool) -> None:
        self.running = running
        self.injects = injects
        self.shares = shares
        self.left: dict[int, tuple[Tensor, ...]] = {}
        """By keyframe: its keys and values ("extended") or its output, (branches, tokens, c)."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        if encoder_hidden_states is not None or attention_mask is not None:
            raise RuntimeError("injection works on self-attention without a mask only")
        now = self.running()
        if self.shares and now.sharing is not None:
            return self._share(attn, hidden_states, now, now.sharing)
        frames = now.frames if self.injects and now.attention else 0
        source = hidden_states[:frames] if frames else hidden_states
        query, key, value = attn.to_q(source), attn.to_k(source), attn.to_v(hidden_states)
        return _project(attn, attend_alike(query, key, value, attn.heads))

    def _share(self, attn: Any, hidden_states: Tensor, now: Running, sharing: Sharing) -> Tensor:
        work = sharing.work
        if sharing.takes_outputs:
            (before,), (after,) = self._neighbours(work)
            matches = sharing.matches[hidden_states.shape[1]]
            target = propagate(before, after, matches, sharing.weights).flatten(0, 1)
            if not now.source:
                return target
            source = hidden_states[: now.frames]
            qkv = (to(source) for to in (attn.to_q, attn.to_k, attn.to_v))
            plain = attend(*(split_heads(x, attn.heads) for x in qkv))
            return torch.cat([_project(attn, plain), target])

        # One branch of queries and keys, the source's, where they are injected.
        inject, own = self.injects and now.attention, int(now.source)
        source = hidden_states[: now.frames] if inject else hidden_states
        query, key, value = (
            _by_branch(x, now.frames)
            for x in (attn.to_q(source), attn.to_k(source), attn.to_v(hidden_states))
        )
        outputs = []
        if own:
            outputs.append(attend_with_context(query[:1], key[:1], value[:1], (), attn.heads))
        if not inject:
            query, key = query[own:], key[own:]
        value = value[own:]
        if work.role == "keyframes":
            outputs.append(attend_jointly(query, key, value, attn.heads))
        else:
            context = [(k, v) for k, v in self._neighbours(work)]
            outputs.append(attend_with_context(query, key, value, context, attn.heads))
        result = _project(attn, torch.cat(outputs).flatten(0, 1))
        if work.role == "keyframes":
            output = _by_branch(result, now.frames)[own:]
            self._leave(work, (output,) if sharing.mode == "propagate" else (key, value))
        return result

    def _leave(self, work: Pass, tensors: tuple[Tensor, ...]) -> None:
        """Keep each keyframe's part of tensors (branches, frames, tokens, c); forget old ones."""
        self.left = {frame: self.left[frame] for frame in work.kept}
        for i, frame in enumerate(work.frames):
            # Copies: a part would keep all of the batch in memory.
            self.left[frame] = tuple(x[:, i].clone() for x in tensors)

    def _neighbours(self, work: Pass) -> list[tuple[Tensor, ...]]:
        """What the keyframes before, and those after the frames left: (branches, frames, ...)."""
        return [
            tuple(torch.stack(x, dim=1) for x in zip(*(self.left[k] for k in side), strict=True))
            for side in zip(*work.neighbours, strict=True)
        ]


def _by_branch(tokens: Tensor, frames: int) -> Tensor:
    """(branches * frames, tokens, channels) to (branches, frames, tokens, channels)."""
    return tokens.view(-1, frames, *tokens.shape[1:])


def _project(attn: Any, output: Tensor) -> Tensor:
    """The layer's own last step, from its heads' joined outputs."""
    result: Tensor = attn.to_out[1](attn.to_out[0](output))
    return result


def is_plain_self_attention(attn: Any) -> bool:
    """Whether the processor above computes what the layer's own would, but for the injection."""
    return (
        not attn.is_cross_attention
        and attn.group_norm is None
        and attn.spatial_norm is None
        and attn.norm_q is None
        and attn.norm_k is None
        and not attn.residual_connection
        and attn.rescale_output_factor == 1
    )
