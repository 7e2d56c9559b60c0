"""What the method asks of any model that denoises: predictions, and places to change them at."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pnpvideo.models.prompt import PromptEmbeddings

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class InjectionLayers:
    """Where to inject and where frames share, as the names of a network's modules.

    features: residual blocks, such as "up_blocks.1.resnets.1".
    attentions: self-attention layers, or modules that hold some, such as "up_blocks.2".
    shared: the same, for sharing between frames; by default all, as in TokenFlow's code.
    """

    features: tuple[str, ...]
    attentions: tuple[str, ...]
    shared: tuple[str, ...] = ("down_blocks", "mid_block", "up_blocks")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What goes through a network together. While it does, it is the network's `batch`.

    latents: (branches * frames, c, h, w), branch-major. timestep: in the model's own units.
    texts: one for each branch, in the branches' order. frames: their numbers in the source, for
    networks that are told more of each frame; the same in each branch.
    """

    latents: Tensor
    timestep: float
    texts: PromptEmbeddings
    frames: tuple[int, ...] = ()

    @property
    def frame_count(self) -> int:
        """Of each branch."""
        return len(self.latents) // len(self.texts)


@dataclass(frozen=True, kw_only=True)
class DecoderLayer:
    """A layer of a network's decoder, counted as in the paper, by the names of its modules.

    feature: its residual block. attention: what holds its self-attention, None where it has none.
    """

    feature: str
    attention: str | None


class Stretch(Protocol):
    """A part of a network where what goes in and what comes out can be changed."""

    def changed(self, enter: Change, leave: Change) -> AbstractContextManager[None]:
        """Within, `enter` changes every tensor on its way in, `leave` the one that comes out."""


class SelfAttention(Protocol):
    """A self-attention layer in its parts."""

    @property
    def heads(self) -> int: ...

    def query(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, channels) to as many channels or others, of all heads side by side."""

    def key(self, tokens: Tensor) -> Tensor: ...

    def value(self, tokens: Tensor) -> Tensor: ...

    def project(self, output: Tensor) -> Tensor:
        """The layer's own last step, from its heads' joined outputs."""

    def replaced(self, by: Change) -> AbstractContextManager[None]:
        """Within, the layer's output is made by `by` from its tokens (batch, tokens, channels)."""

    def watched(self, see: Callable[[Tensor], None]) -> AbstractContextManager[None]:
        """Within, `see` gets the tokens that go into the layer."""


class CrossAttention(Protocol):
    """A layer whose tokens of the picture attend to those of the text."""

    def watched(self, see: Callable[[Tensor], None]) -> AbstractContextManager[None]:
        """Within, `see` gets how much each attends to each, on average over the heads.

        (batch, the picture's tokens, the text's tokens); they sum to 1 over the text's.
        """


class Network(Protocol):
    """A model that denoises. Whatever changes it is a context manager that restores it."""

    @property
    def device(self) -> torch.device:
        """Where its inputs must be, and its output is."""

    @property
    def batch(self) -> Batch | None:
        """What is under way: the one description that all changes read."""

    def predict(self, batch: Batch) -> Tensor:
        """The network's output for every latent, in the shape and precision of the latents.

        The network runs in its own precision; the latents stay float32 at least, so that the
        rounding of bf16 or fp16 does not add up over the steps.
        """

    @property
    def decoder(self) -> Sequence[DecoderLayer]:
        """Its layers in order, from the coarsest."""

    def feature(self, name: str) -> Stretch:
        """The residual branch of a block, whose output is the feature. InputError: none."""

    def attentions(self, name: str) -> Sequence[SelfAttention]:
        """The self-attention layers in a module. InputError where there is no such module."""

    @property
    def text_projections(self) -> Sequence[Stretch]:
        """The layers that see nothing but the text: (branches * frames, tokens, channels)."""

    @property
    def before_text(self) -> Sequence[Stretch]:
        """Layers that come before the first that sees a text."""

    @property
    def crossings(self) -> Sequence[CrossAttention]:
        """All layers that see the text."""

    @property
    def observed(self) -> Sequence[SelfAttention]:
        """One layer for each resolution whose tokens tell what the picture shows."""

    def grid(self, tokens: int, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of so many tokens, for latents of this height and width."""
