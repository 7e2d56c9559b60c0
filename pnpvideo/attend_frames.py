"""Self-attention in which the target's queries and keys are the source's."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(batch, tokens, channels) to (batch, heads, tokens, channels / heads)."""
    return tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for every head, heads joined again.

    query, key, value: (batch, heads, tokens, d). Returns (batch, tokens, heads * d).
    """
    output = functional.scaled_dot_product_attention(query, key, value)
    return output.transpose(1, 2).flatten(2)


class InjectedSelfAttention:
    """Attention processor: A = softmax(q k^T / sqrt(d)) of the source, with each branch's values.

    Tumanyan et al. 2022, equation 3 and section 4.2. While `source_frames()` is n > 0 the first n
    of the batch are the source, and the batch holds that many frames for each branch; at 0 it is
    plain self-attention.
    """

    def __init__(self, source_frames: Callable[[], int]) -> None:
        self.source_frames = source_frames

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
        frames = self.source_frames()
        source = hidden_states[:frames] if frames else hidden_states
        query, key = attn.to_q(source), attn.to_k(source)
        if frames:
            branches = len(hidden_states) // frames
            query, key = query.repeat(branches, 1, 1), key.repeat(branches, 1, 1)
        output = attend(
            *(split_heads(x, attn.heads) for x in (query, key, attn.to_v(hidden_states)))
        )
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
