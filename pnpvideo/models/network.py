"""The protocols of a network: what the method needs of every network, and what only UNets have."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.prompt import PromptEmbeddings

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class InjectionLayers:
    """The modules of a network to inject into, by name.

    features: modules whose output is injected, such as "up_blocks.1.resnets.1".
    attentions: self-attention layers, or modules that contain some, such as "up_blocks.2".
    shared: the same, for attention shared between frames; by default all self-attention layers of
        a UNet, as in TokenFlow's code.
    blocks: blocks of a transformer, each with what is injected of its picture tokens: q, k, v
        (queries, keys, values) and f (the output of its feed-forward part), such as
        ("transformer_blocks.0", "kv").
    """

    features: tuple[str, ...]
    attentions: tuple[str, ...]
    shared: tuple[str, ...] = ("down_blocks", "mid_block", "up_blocks")
    blocks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The input of one forward pass. During the pass it is the network's `batch`.

    latents: (branches * pieces, c, h, w), branch-major; for models of videos, one clip for each
    branch, (branches, c, pieces, h, w). timestep: the number that the network expects for the noise
    level, such as 981 (UNets) or 0.98 (flow models).
    texts: one for each branch, in the branches' order. pieces: their numbers in the source, for
    networks with an input for each of them; the same in each branch. For models of images a piece
    is a frame.
    """

    latents: Tensor
    timestep: float
    texts: PromptEmbeddings
    pieces: tuple[int, ...] = ()

    @property
    def piece_count(self) -> int:
        """The number of rows of each branch: its pieces, or one clip."""
        return len(self.latents) // len(self.texts)


@dataclass(frozen=True, kw_only=True)
class DecoderLayer:
    """A layer of a UNet's decoder, by the names of its modules.

    feature: its residual block. attention: the module that contains its self-attention, or None.
    """

    feature: str
    attention: str | None


class HookPoint(Protocol):
    """A part of a network whose inputs and output can be changed."""

    def changed(self, enter: Change, leave: Change) -> AbstractContextManager[None]:
        """Apply `enter` to every input tensor and `leave` to the output, within the context."""


class PictureTokens(Protocol):
    """The picture's tokens as a transformer's block computes them: (rows, tokens, channels)."""

    def changed(self, change: Change) -> AbstractContextManager[None]:
        """Replace these tokens by `change(tokens)` within. All other tokens stay."""


class SelfAttention(Protocol):
    """A self-attention layer in its parts."""

    @property
    def heads(self) -> int: ...

    def query(self, tokens: Tensor) -> Tensor:
        """Project (batch, tokens, channels) to the queries of all heads side by side."""

    def key(self, tokens: Tensor) -> Tensor: ...

    def value(self, tokens: Tensor) -> Tensor: ...

    def project(self, output: Tensor) -> Tensor:
        """Apply the layer's output projection to the joined outputs of its heads."""

    def replaced(self, by: Change) -> AbstractContextManager[None]:
        """Compute the layer's output as `by(tokens)` within; tokens (batch, tokens, channels)."""

    def watched(self, see: Callable[[Tensor], None]) -> AbstractContextManager[None]:
        """Pass the layer's input tokens to `see` within."""


class CrossAttention(Protocol):
    """A layer whose picture tokens attend to the text's tokens."""

    def watched(self, see: Callable[[Tensor], None]) -> AbstractContextManager[None]:
        """Pass the attention weights, averaged over the heads, to `see` within the context.

        (batch, picture tokens, text tokens); they sum to 1 over the text tokens.
        """


class Network(Protocol):
    """A network that denoises. Everything that changes it is a context manager that restores it."""

    @property
    def device(self) -> torch.device:
        """The device of its inputs and outputs."""

    @property
    def batch(self) -> Batch | None:
        """The batch of the pass under way: the one description that all hooks read."""

    def predict(self, batch: Batch) -> Tensor:
        """Return the prediction for every latent, in the shape and precision of the latents.

        The network runs in its own precision; the latents stay float32 at least, so that the
        rounding of bf16 or fp16 does not add up over the steps.
        """

    def feature(self, name: str) -> HookPoint:
        """Return the part of a module that is injected as a feature. InputError for none.

        Its tensors have the batch first: (branches * pieces, ...).
        """

    def attentions(self, name: str) -> Sequence[SelfAttention]:
        """Return the self-attention layers in a module. InputError if there is no such module."""


class UNetNetwork(Network, Protocol):
    """A network with a UNet's structure; what needs it calls `as_unet` or `is_unet`."""

    @property
    def decoder(self) -> Sequence[DecoderLayer]:
        """The layers of the decoder in order, from the coarsest resolution; the paper's numbers."""

    @property
    def text_projections(self) -> Sequence[HookPoint]:
        """The layers that see only the text: (branches * pieces, tokens, channels)."""

    @property
    def layers_before_text(self) -> Sequence[HookPoint]:
        """The layers before the first one that sees the text."""

    @property
    def cross_attentions(self) -> Sequence[CrossAttention]:
        """All layers that attend to the text."""

    @property
    def matching_layers(self) -> Sequence[SelfAttention]:
        """One layer for each resolution, whose tokens show what the picture shows."""

    def grid(self, tokens: int, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of so many tokens, for latents of this height and width."""


class TransformerNetwork(Network, Protocol):
    """A transformer whose picture and text tokens attend to one another."""

    def tokens_of(self, block: str, kind: str) -> PictureTokens:
        """Return the picture's tokens as a block computes them. InputError if it has no such part.

        kind: q, k, v or f (see `InjectionLayers`).
        """

    @property
    def middle_tokens(self) -> PictureTokens:
        """The tokens of a block in the middle, which show what the picture shows."""


_UNET_ONLY = (
    "decoder",
    "text_projections",
    "layers_before_text",
    "cross_attentions",
    "matching_layers",
    "grid",
)


def is_unet(network: Network) -> TypeGuard[UNetNetwork]:
    """Return whether a network has a UNet's structure."""
    return all(hasattr(type(network), name) for name in _UNET_ONLY)


def as_unet(network: Network, feature: str) -> UNetNetwork:
    """Return the network as a UNet. InputError if it is not one. feature: what needs it."""
    if not is_unet(network):
        raise InputError(f"{feature} needs a model with a UNet, and this model has none")
    return network


def is_transformer(network: Network) -> TypeGuard[TransformerNetwork]:
    """Return whether a network is a transformer with blocks to inject into."""
    return hasattr(type(network), "tokens_of")
