"""Vision transformers and CLIP written out from their papers, in plain operations on named weights.

They share nothing with transformers but the names of the weights.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def norm(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    scaled = (x - mean) / torch.sqrt(variance + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def attend(
    x: Tensor, weights: Weights, names: tuple[str, str, str, str], heads: int, mask: Tensor | None
) -> Tensor:
    count, tokens, width = x.shape
    q, k, v = (
        linear(x, weights, name).view(count, tokens, heads, width // heads).transpose(1, 2)
        for name in names[:3]
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    if mask is not None:
        scores = scores + mask
    shares = torch.exp(scores - scores.amax(-1, keepdim=True))
    shares = shares / shares.sum(-1, keepdim=True)
    joined = (shares @ v).transpose(1, 2).reshape(count, tokens, width)
    return linear(joined, weights, names[3])


def patches(pixels: Tensor, weights: Weights, name: str, side: int) -> Tensor:
    """(n, 3, h, w) to (n, patches, width)."""
    count, _, height, width = pixels.shape
    cut = pixels.view(count, 3, height // side, side, width // side, side)
    flat = cut.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, 3 * side * side)
    y = flat @ weights[f"{name}.weight"].flatten(1).T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def vit(pixels: Tensor, weights: Weights, *, patch: int, heads: int, layers: int) -> list[Tensor]:
    """Return the input of each block, the output of the last one, and that output normalised."""
    x = patches(pixels, weights, "embeddings.patch_embeddings.projection", patch)
    first = weights["embeddings.cls_token"].expand(len(x), -1, -1)
    x = torch.cat([first, x], 1) + weights["embeddings.position_embeddings"]
    states = [x]
    for number in range(layers):
        name = f"layers.{number}"
        parts = tuple(f"{name}.attention.{letter}_proj" for letter in "qkvo")
        y = norm(x, weights, f"{name}.layernorm_before", 1e-12)
        x = x + attend(y, weights, parts, heads, None)  # type: ignore[arg-type]
        y = linear(norm(x, weights, f"{name}.layernorm_after", 1e-12), weights, f"{name}.mlp.fc1")
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + linear(y, weights, f"{name}.mlp.fc2")
        states.append(x)
    return [*states, norm(x, weights, "layernorm", 1e-12)]


def vit_keys(pixels: Tensor, weights: Weights, *, patch: int, heads: int, layers: int) -> Tensor:
    """The keys of the last block."""
    states = vit(pixels, weights, patch=patch, heads=heads, layers=layers - 1)
    name = f"layers.{layers - 1}"
    return linear(
        norm(states[-2], weights, f"{name}.layernorm_before", 1e-12),
        weights,
        f"{name}.attention.k_proj",
    )


def clip_blocks(
    x: Tensor, weights: Weights, name: str, *, heads: int, layers: int, mask: Tensor | None
) -> Tensor:
    for number in range(layers):
        block = f"{name}.encoder.layers.{number}"
        parts = tuple(f"{block}.self_attn.{p}_proj" for p in ("q", "k", "v", "out"))
        y = norm(x, weights, f"{block}.layer_norm1", 1e-5)
        x = x + attend(y, weights, parts, heads, mask)  # type: ignore[arg-type]
        y = linear(norm(x, weights, f"{block}.layer_norm2", 1e-5), weights, f"{block}.mlp.fc1")
        y = y * torch.sigmoid(1.702 * y)
        x = x + linear(y, weights, f"{block}.mlp.fc2")
    return x


def clip_pictures(
    pixels: Tensor, weights: Weights, *, patch: int, heads: int, layers: int
) -> Tensor:
    """Features (n, channels) of pictures (n, 3, h, w)."""
    name = "vision_model"
    x = patches(pixels, weights, f"{name}.embeddings.patch_embedding", patch)
    first = weights[f"{name}.embeddings.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], 1) + weights[f"{name}.embeddings.position_embedding.weight"]
    x = norm(x, weights, f"{name}.pre_layrnorm", 1e-5)
    x = clip_blocks(x, weights, name, heads=heads, layers=layers, mask=None)[:, 0]
    return linear(norm(x, weights, f"{name}.post_layernorm", 1e-5), weights, "visual_projection")


def clip_text(tokens: Tensor, weights: Weights, *, heads: int, layers: int) -> Tensor:
    """Features (1, channels) of the tokens (1, n) of a text, the last of which ends it."""
    name, count = "text_model", tokens.shape[1]
    x = weights[f"{name}.embeddings.token_embedding.weight"][tokens]
    x = x + weights[f"{name}.embeddings.position_embedding.weight"][:count]
    mask = torch.full((count, count), -torch.inf).triu(1)
    x = clip_blocks(x, weights, name, heads=heads, layers=layers, mask=mask)
    x = norm(x, weights, f"{name}.final_layer_norm", 1e-5)[:, -1]
    return linear(x, weights, "text_projection")
