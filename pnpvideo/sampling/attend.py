"""Attention of several branches and frames: pure functions of queries, keys and values."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

# On a CPU, up to this size a map that all branches share is faster than fused attention on each:
# 14 ms against 35 ms for 3 branches of 4 frames of 1024 tokens; at 4096 tokens it is slower.
_MOST_TOKENS = 1500
_MAPS = 4  # at a time, so that they stay in the cache


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Return tokens (rows, tokens, channels) as (rows, heads, tokens, channels / heads)."""
    return tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v of every head, heads side by side.

    query, key, value: (rows, heads, tokens, d). Returns (rows, tokens, heads * d).
    """
    output = functional.scaled_dot_product_attention(query, key, value)
    return output.transpose(1, 2).flatten(2)


def attend_alike(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Compute attention of branches with equal queries and keys, so equal attention maps.

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
    """Let every frame's queries attend to the tokens of all frames (extended attention).

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
    """Let each frame's queries attend to its own tokens and to those of its context.

    value: (branches, frames, tokens, channels); query, key: the same, or of one branch for all.
    context: more keys and values in these shapes, one of each for every frame. Returns the shape of
    value.
    """
    query = query.expand_as(value)
    values = torch.cat([value, *(v for _, v in context)], dim=2)
    keys = torch.cat([key, *(k for k, _ in context)], dim=2).expand_as(values)
    flat = [x.flatten(0, 1) for x in (query, keys, values)]
    return attend(*(split_heads(x, heads) for x in flat)).view_as(value)


def propagate(before: Tensor, after: Tensor, matches: Tensor, weights: Tensor) -> Tensor:
    """Return outputs of the keyframes around each frame, taken from the tokens that match its own.

    The propagation of Geyer et al. 2023, but with weights that change linearly from one keyframe to
    the next: their sigmoid gives each keyframe a quarter or more of every frame.
    before, after: (branches, frames, tokens, channels), outputs of each frame's two keyframes.
    matches: (frames, 2, tokens), the nearest token of each (see `match_clip`).
    weights: (frames), the weight of the keyframe before, 0 to 1.
    """
    sides = []
    for side, output in enumerate((before, after)):
        index = matches[None, :, side, :, None].expand_as(output)
        sides.append(output.gather(2, index))
    share = weights.to(before.dtype).to(before.device)[None, :, None, None]
    return share * sides[0] + (1 - share) * sides[1]
