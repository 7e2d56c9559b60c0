"""Naive references for flow-matching transformers: one row at a time, written out block by block.

Nothing here imports the package. Embeddings of time, text and places are the classes' own, as they
round to float32 inside; attention, injection and steps are written out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Put = Mapping[tuple[str, str], Tensor]
"""By block and kind (q, k, v, f): picture tokens (tokens, channels) in place of the own ones."""


@dataclass
class Row:
    """One text's row. put: what is injected. seen: all that was computed, by block and kind."""

    put: Put = field(default_factory=dict)
    seen: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def of(self, block: str, kind: str, tokens: Tensor) -> Tensor:
        self.seen[block, kind] = tokens
        return self.put.get((block, kind), tokens)


@dataclass(frozen=True)
class Text:
    """hidden: (tokens, channels). pooled: (channels), if the network takes it."""

    hidden: Tensor
    pooled: Tensor | None


def _pooled(text: Text) -> Tensor:
    assert text.pooled is not None
    return text.pooled[None]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(heads, tokens, d) to (tokens, heads * d), by the definition."""
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    return (weights @ value).transpose(0, 1).flatten(1)


def heads_of(tokens: Tensor, count: int) -> Tensor:
    return tokens.view(len(tokens), count, -1).transpose(0, 1)


def turned(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (heads, tokens, d), pair by pair, in float32 as in FLUX's class."""
    result = torch.empty_like(tokens)
    for pair in range(tokens.shape[-1] // 2):
        x, y = tokens[..., 2 * pair].float(), tokens[..., 2 * pair + 1].float()
        c, s = cos[:, 2 * pair], sin[:, 2 * pair]
        result[..., 2 * pair] = x * c - y * s
        result[..., 2 * pair + 1] = y * c + x * s
    return result


def rotated(tokens: Tensor, turns: Tensor) -> Tensor:
    """The same with complex numbers (tokens, d / 2), in complex64 as in Qwen-Image's class."""
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(tokens)


def normed(tokens: Tensor) -> Tensor:
    mean, spread = tokens.mean(-1, keepdim=True), tokens.var(-1, unbiased=False, keepdim=True)
    return (tokens - mean) / (spread + 1e-6).sqrt()


@torch.no_grad()
def sd3_velocity(net: Any, latents: Tensor, sigma: float, text: Text, row: Row) -> Tensor:
    """The velocity of one picture (c, h, w)."""
    count = net.config.num_attention_heads
    time = torch.tensor([1000 * sigma], dtype=torch.float64)
    emb = net.time_text_embed(time, _pooled(text))
    x = net.pos_embed(latents[None])[0]
    c = net.context_embedder(text.hidden[None])[0]

    def modulation(norm: Any) -> tuple[Tensor, ...]:
        out = norm.linear(functional.silu(emb))[0]
        return out.chunk(out.shape[-1] // x.shape[-1])

    for number, block in enumerate(net.transformer_blocks):
        name = f"transformer_blocks.{number}"
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp, *second = modulation(block.norm1)
        own = normed(x)
        h = own * (1 + scale) + shift
        context = modulation(block.norm1_context)
        if block.context_pre_only:
            scale_c, shift_c = context
        else:
            shift_c, scale_c, gate_c, shift_cm, scale_cm, gate_cm = context
        hc = normed(c) * (1 + scale_c) + shift_c
        attn = block.attn
        parts = []
        for kind, layer, added in (
            ("q", attn.to_q, attn.add_q_proj),
            ("k", attn.to_k, attn.add_k_proj),
            ("v", attn.to_v, attn.add_v_proj),
        ):
            picture = heads_of(row.of(name, kind, layer(h)), count)
            words = heads_of(added(hc), count)
            if kind != "v" and attn.norm_q is not None:
                norms = {"q": (attn.norm_q, attn.norm_added_q)}
                norms["k"] = attn.norm_k, attn.norm_added_k
                picture, words = norms[kind][0](picture), norms[kind][1](words)
            parts.append(torch.cat([picture, words], dim=1))
        out = attend(*parts)
        x_out, c_out = out[: len(x)], out[len(x) :]
        x = x + gate * attn.to_out[0](x_out)
        if second:
            shift2, scale2, gate2 = second
            h2 = own * (1 + scale2) + shift2
            alone = [heads_of(layer(h2), count) for layer in (block.attn2.to_q, block.attn2.to_k)]
            if block.attn2.norm_q is not None:
                alone = [block.attn2.norm_q(alone[0]), block.attn2.norm_k(alone[1])]
            out2 = attend(*alone, heads_of(block.attn2.to_v(h2), count))
            x = x + gate2 * block.attn2.to_out[0](out2)
        x = x + gate_mlp * row.of(name, "f", block.ff(normed(x) * (1 + scale_mlp) + shift_mlp))
        if not block.context_pre_only:
            c = c + gate_c * attn.to_add_out(c_out)
            c = c + gate_cm * block.ff_context(normed(c) * (1 + scale_cm) + shift_cm)
    scale, shift = net.norm_out.linear(functional.silu(emb))[0].chunk(2)
    out = net.proj_out(normed(x) * (1 + scale) + shift)
    result = torch.empty_like(latents)
    columns = latents.shape[-1] // 2
    for token, values in enumerate(out):
        top, left = 2 * (token // columns), 2 * (token % columns)
        # Of a token: row by row of its cells, all channels of each.
        result[:, top : top + 2, left : left + 2] = values.view(2, 2, -1).permute(2, 0, 1)
    return result


@torch.no_grad()
def flux_velocity(
    net: Any, latents: Tensor, sigma: float, text: Text, row: Row, guidance: float = 1.0
) -> Tensor:
    """The velocity of one picture (c, h, w)."""
    count, (_, height, width) = net.config.num_attention_heads, latents.shape
    cells = [(y, x) for y in range(height // 2) for x in range(width // 2)]
    packed = [latents[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten() for y, x in cells]
    numbers = [torch.tensor([1000 * value], dtype=torch.float64) for value in (sigma, guidance)]
    emb = net.time_text_embed(*numbers, _pooled(text))
    x = net.x_embedder(torch.stack(packed))
    c = net.context_embedder(text.hidden[None])[0]
    places = [(0, 0, 0)] * len(c) + [(0, *cell) for cell in cells]
    cos, sin = net.pos_embed(torch.tensor(places, dtype=torch.float64))

    def modulation(norm: Any) -> tuple[Tensor, ...]:
        out = norm.linear(functional.silu(emb))[0]
        return out.chunk(out.shape[-1] // x.shape[-1])

    for number, block in enumerate(net.transformer_blocks):
        name, attn = f"transformer_blocks.{number}", block.attn
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation(block.norm1)
        shift_c, scale_c, gate_c, shift_cm, scale_cm, gate_cm = modulation(block.norm1_context)
        h, hc = normed(x) * (1 + scale) + shift, normed(c) * (1 + scale_c) + shift_c
        picture = [
            heads_of(row.of(name, kind, layer(h)), count)
            for kind, layer in (("q", attn.to_q), ("k", attn.to_k), ("v", attn.to_v))
        ]
        words = [
            heads_of(layer(hc), count)
            for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        ]
        query = torch.cat([attn.norm_added_q(words[0]), attn.norm_q(picture[0])], dim=1)
        key = torch.cat([attn.norm_added_k(words[1]), attn.norm_k(picture[1])], dim=1)
        value = torch.cat([words[2], picture[2]], dim=1)
        out = attend(turned(query, cos, sin), turned(key, cos, sin), value)
        x = x + gate * attn.to_out[0](out[len(c) :])
        x = x + gate_mlp * row.of(name, "f", block.ff(normed(x) * (1 + scale_mlp) + shift_mlp))
        c = c + gate_c * attn.to_add_out(out[: len(c)])
        c = c + gate_cm * block.ff_context(normed(c) * (1 + scale_cm) + shift_cm)
    both, first = torch.cat([c, x]), len(c)
    for number, block in enumerate(net.single_transformer_blocks):
        name, attn = f"single_transformer_blocks.{number}", block.attn
        shift, scale, gate = modulation(block.norm)
        h = normed(both) * (1 + scale) + shift
        parts = []
        for kind, layer in (("q", attn.to_q), ("k", attn.to_k), ("v", attn.to_v)):
            tokens = layer(h)
            tokens = torch.cat([tokens[:first], row.of(name, kind, tokens[first:])])
            parts.append(heads_of(tokens, count))
        query, key = (
            turned(attn.norm_q(parts[0]), cos, sin),
            turned(attn.norm_k(parts[1]), cos, sin),
        )
        inside = functional.gelu(block.proj_mlp(h), approximate="tanh")
        out = block.proj_out(torch.cat([attend(query, key, parts[2]), inside], dim=-1))
        both = both + gate * torch.cat([out[:first], row.of(name, "f", out[first:])])
    scale, shift = net.norm_out.linear(functional.silu(emb))[0].chunk(2)
    out = net.proj_out(normed(both[first:]) * (1 + scale) + shift)
    result = torch.empty_like(latents)
    for values, (y, x_) in zip(out, cells, strict=True):
        result[:, 2 * y : 2 * y + 2, 2 * x_ : 2 * x_ + 2] = values.view(-1, 2, 2)
    return result


@torch.no_grad()
def qwen_velocity(net: Any, latents: Tensor, sigma: float, text: Text, row: Row) -> Tensor:
    """The velocity of one picture (c, h, w)."""
    count, (_, height, width) = net.config.num_attention_heads, latents.shape
    cells = [(y, x) for y in range(height // 2) for x in range(width // 2)]
    packed = [latents[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten() for y, x in cells]
    x, c = net.img_in(torch.stack(packed)), net.txt_in(net.txt_norm(text.hidden))
    emb = net.time_text_embed(torch.tensor([sigma], dtype=torch.float64), x)
    shape = [[(1, height // 2, width // 2)]]
    both = net.pos_embed(shape, max_txt_seq_len=len(c), device=x.device)
    turns, turns_c = both

    def modulation(layers: Any) -> tuple[Tensor, ...]:
        return layers(emb)[0].chunk(6)  # type: ignore[no-any-return]

    for number, block in enumerate(net.transformer_blocks):
        name, attn = f"transformer_blocks.{number}", block.attn
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation(block.img_mod)
        shift_c, scale_c, gate_c, shift_cm, scale_cm, gate_cm = modulation(block.txt_mod)
        h, hc = normed(x) * (1 + scale) + shift, normed(c) * (1 + scale_c) + shift_c
        query, key, value = (
            heads_of(row.of(name, kind, layer(h)), count)
            for kind, layer in (("q", attn.to_q), ("k", attn.to_k), ("v", attn.to_v))
        )
        words = [
            heads_of(layer(hc), count)
            for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        ]
        query, key = rotated(attn.norm_q(query), turns), rotated(attn.norm_k(key), turns)
        words[0] = rotated(attn.norm_added_q(words[0]), turns_c)
        words[1] = rotated(attn.norm_added_k(words[1]), turns_c)
        pairs = zip(words, (query, key, value), strict=True)
        out = attend(*(torch.cat(pair, dim=1) for pair in pairs))
        x = x + gate * attn.to_out[0](out[len(c) :])
        x = x + gate_mlp * row.of(name, "f", block.img_mlp(normed(x) * (1 + scale_mlp) + shift_mlp))
        c = c + gate_c * attn.to_add_out(out[: len(c)])
        c = c + gate_cm * block.txt_mlp(normed(c) * (1 + scale_cm) + shift_cm)
    scale, shift = net.norm_out.linear(functional.silu(emb))[0].chunk(2)
    out = net.proj_out(normed(x) * (1 + scale) + shift)
    result = torch.empty_like(latents)
    for values, (y, x_) in zip(out, cells, strict=True):
        result[:, 2 * y : 2 * y + 2, 2 * x_ : 2 * x_ + 2] = values.view(-1, 2, 2)
    return result


@torch.no_grad()
def wan_velocity(net: Any, latents: Tensor, timestep: float, text: Text, row: Row) -> Tensor:
    """The velocity of one clip (c, n, h, w). Norms are the classes' own, which are in float32."""
    count, (_, frames, height, width) = net.config.num_attention_heads, latents.shape
    cells = [
        (t, y, x) for t in range(frames) for y in range(height // 2) for x in range(width // 2)
    ]
    weight, bias = net.patch_embedding.weight[:, :, 0], net.patch_embedding.bias
    x = torch.stack(
        [
            (weight * latents[:, t, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]).flatten(1).sum(1) + bias
            for t, y, x in cells
        ]
    )
    told = torch.tensor([timestep], dtype=torch.float64)
    emb, change, words, _ = net.condition_embedder(told, text.hidden[None])
    change, words = change[0].view(6, -1), words[0]
    cos, sin = (one[0, :, 0] for one in net.rope(latents[None]))

    def places(tokens: Tensor) -> Tensor:
        """Rotary embedding of (heads, tokens, d), pair by pair."""
        result = torch.empty_like(tokens)
        for i in range(0, tokens.shape[-1], 2):
            a, b, c, s = tokens[..., i], tokens[..., i + 1], cos[:, i], sin[:, i + 1]
            result[..., i], result[..., i + 1] = a * c - b * s, a * s + b * c
        return result

    for number, block in enumerate(net.blocks):
        name = f"blocks.{number}"
        shift, scale, gate, shift_f, scale_f, gate_f = block.scale_shift_table[0] + change.float()
        h, attn = (block.norm1(x.float()) * (1 + scale) + shift).to(x), block.attn1
        query, key, value = (
            row.of(name, kind, layer(h))
            for kind, layer in (("q", attn.to_q), ("k", attn.to_k), ("v", attn.to_v))
        )
        query = row.of(name, "qn", attn.norm_q(query))
        key = row.of(name, "kn", attn.norm_k(key))
        query, key = (places(heads_of(tokens, count)) for tokens in (query, key))
        out = attn.to_out[0](attend(query, key, heads_of(value, count)))
        x = (x.float() + out * gate).to(x)
        attn = block.attn2
        query = heads_of(attn.norm_q(attn.to_q(block.norm2(x.float()).to(x))), count)
        key, value = (heads_of(y, count) for y in (attn.norm_k(attn.to_k(words)), attn.to_v(words)))
        row.of(name, "text", (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).mean(0))
        x = x + attn.to_out[0](attend(query, key, value))
        h = (block.norm3(x.float()) * (1 + scale_f) + shift_f).to(x)
        x = (x.float() + row.of(name, "f", block.ffn(h)).float() * gate_f).to(x)
    shift, scale = net.scale_shift_table[0] + emb
    out = net.proj_out((net.norm_out(x.float()) * (1 + scale) + shift).to(x))
    result = torch.empty_like(latents)
    for values, (t, y, x_) in zip(out, cells, strict=True):
        cell = values.view(2, 2, -1).permute(2, 0, 1)
        result[:, t, 2 * y : 2 * y + 2, 2 * x_ : 2 * x_ + 2] = cell
    return result


def qwen_rescaled(guided: Tensor, plain: Tensor) -> Tensor:
    """Each token with the norm that it has without guidance."""
    result = torch.empty_like(guided)
    for y in range(0, guided.shape[1], 2):
        for x in range(0, guided.shape[2], 2):
            cell = (slice(None), slice(y, y + 2), slice(x, x + 2))
            norms = [one[cell].square().sum().sqrt() for one in (plain, guided)]
            result[cell] = guided[cell] * norms[0] / norms[1]
    return result


Velocity = Callable[[Tensor, float, Text, Row], Tensor]


def invert_step(velocity: Velocity, latents: Tensor, low: float, high: float, text: Text) -> Tensor:
    """Euler's step from sigma `low` up to `high`, where the network is given `high`."""
    return latents + (high - low) * velocity(latents, high, text, Row())


def sample_step(
    velocity: Velocity,
    latents: Tensor,
    source: Tensor,
    high: float,
    low: float,
    texts: Mapping[str, Text],
    injected: Mapping[str, str],
    scale: float,
    missed: Tensor | None = None,
    rescaled: Callable[[Tensor, Tensor], Tensor] = lambda guided, plain: guided,
) -> Tensor:
    """Euler's step from `high` down to `low`, with the source's tokens in the prompt's row.

    texts: source, target and, with guidance, negative. injected: letters by block. missed: what the
    inversion missed of the source, which is added wherever the network is asked (DirectEdit).
    """
    before = latents
    if missed is not None:
        latents, source = latents + missed, source + missed
    own = Row()
    velocity(source, high, texts["source"], own)
    put = {
        (block, kind): own.seen[block, kind] for block, kinds in injected.items() for kind in kinds
    }
    output = velocity(latents, high, texts["target"], Row(put=put))
    if "negative" in texts:
        negative = velocity(latents, high, texts["negative"], Row())
        output = rescaled(negative + scale * (output - negative), output)
    return before + (low - high) * output
