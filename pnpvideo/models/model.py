"""The protocols that every family of models implements. Contains no class of diffusers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from pnpvideo.catalogue.known_words import KnownWords
from pnpvideo.clips.clip import Frames
from pnpvideo.models.network import InjectionLayers, Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """The pictures that a ControlNet follows, and how closely.

    pictures: returns those of some frames, by their numbers: uint8 (n, height, width, 3), at the
        working size.
    scale: the factor of the ControlNet's outputs, 0 to 2; 1 as it was trained.
    inactive_at_or_below: the ControlNet acts at timesteps above this one only.
    """

    pictures: Callable[[Sequence[int]], Frames]
    scale: float
    inactive_at_or_below: float


@dataclass(frozen=True, kw_only=True)
class Window:
    """The windows in which a model of videos takes the pieces of a scene; they overlap.

    length: the most pieces in a window. stride: how many pieces later the next one begins.
    """

    length: int
    stride: int


class Autoencoder(Protocol):
    """The part of a model that turns frames into latents and back, in pieces.

    A piece is a frame for models of images, and the frames of one latent in time for models of
    videos: in Wan 4, but 1 where a scene begins.
    """

    @property
    def factor(self) -> int:
        """The number of pixels along a side that make one latent."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision that it runs in."""

    def latents_shape(self, piece_count: int, size: Size) -> tuple[int, ...]:
        """Return the shape of the latents of so many pieces of this size: (pieces, c, h, w)."""

    def size_of(self, shape: Sequence[int]) -> Size:
        """Return the size in pixels of latents of shape (..., height, width)."""

    def pieces(self, frame_count: int, scenes: Callable[[], Sequence[range]]) -> tuple[range, ...]:
        """Return the numbers of the frames in each piece of a clip; the last may hold fewer.

        scenes: returns the frame numbers of each scene, for models whose pieces depend on them.
        """

    def frame_count(self, piece_count: int) -> int:
        """Return how many frames so many full pieces of one scene hold."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode the frames of whole pieces, (n, 3, height, width), -1 to 1, to (pieces, c, h, w).

        The first piece begins a scene. Only the last may have fewer frames than the others.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (pieces, c, h, w) to float32 frames (n, 3, height, width), -1 to 1.

        The first piece begins a scene. Every piece gives all of its frames.
        """

    def encoder(self) -> Callable[[Tensor], Tensor]:
        """Return an `encode` that goes on with one scene, from call to call."""

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """Return a `decode` that goes on with one scene, from call to call."""

    def use_tiles(self) -> None:
        """Encode and decode in overlapping tiles from now on, to use less memory."""


class Model(Protocol):
    """A loaded model: its parts, and how to use them.

    A family of models implements this in a folder of its own; stages, runs, batches, grids and
    evaluations know no more of it.
    """

    @property
    def autoencoder(self) -> Autoencoder: ...

    @property
    def window(self) -> Window | None:
        """How the pieces of a scene go through the network; None: each by itself."""

    @property
    def boundary(self) -> float | None:
        """The timestep below which another network predicts, with a guidance scale of its own.

        None: one network predicts at all timesteps.
        """

    @property
    def layers(self) -> InjectionLayers:
        """The layers that the method injects into."""

    @property
    def defaults(self) -> PnPOptions:
        """The options that suit this model."""

    @property
    def known_words(self) -> KnownWords | None:
        """The words that the model knows; None if nothing lists them."""

    @property
    def device(self) -> torch.device:
        """The device that its networks run on."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision that its network runs in."""

    @property
    def latent_dtype(self) -> torch.dtype:
        """The precision of latents between passes: float32 at least."""

    @property
    def default_size(self) -> Size:
        """The size of the pictures that the model was trained on."""

    @property
    def multiple(self) -> int:
        """The number of pixels that both sides of a picture must be multiples of."""

    @property
    def longest_side(self) -> int:
        """The number of pixels that a side of a picture can have."""

    @property
    def packing(self) -> int:
        """The latents along a side of what this family's own samplers hold as one token; else 1."""

    @property
    def reads_pictures(self) -> bool:
        """Whether the model takes a picture in addition to texts, as for an IP-Adapter."""

    def network(self, control: Control | None = None) -> AbstractContextManager[Network]:
        """Open the network; within the context, hooks that save work are installed in it.

        control: what its ControlNet follows.
        """

    def encode_texts(
        self, texts: Sequence[str], clip_skip: int = 0, *, weights: bool = False
    ) -> PromptEmbeddings:
        """Embed texts.

        clip_skip: leave out so many of the text encoder's last layers. weights: read weights such
        as (red:1.3) in the texts.
        """

    def check_embeddings(self, embeddings: PromptEmbeddings) -> PromptEmbeddings:
        """Return embeddings from outside as the network takes them. InputError if they cannot be
        used.
        """

    def with_image(
        self, embeddings: PromptEmbeddings, picture: Image.Image | None = None
    ) -> PromptEmbeddings:
        """Add the embedding of a picture (or of none) to each text, if the model reads pictures."""

    def words_in(self, text: str) -> list[tuple[str, list[int]]]:
        """Return each word of a text except articles, with the numbers of its tokens."""

    def schedule(self, options: PnPOptions, size: Size) -> NoiseSchedule:
        """Return the noise levels of a run. InputError if the model has no usable ones."""

    def rescaled(self, guided: Tensor, prediction: Tensor) -> Tensor:
        """Return guided predictions (..., c, h, w) as this family's own samplers scale them.

        prediction: those under the prompt alone.
        """

    def check_options(self, options: PnPOptions) -> None:
        """Raise InputError for options that models of this family cannot follow."""

    def check_control(self) -> None:
        """Raise InputError unless there is a ControlNet that can be used."""

    def identity(self, *, controlled: bool) -> dict[str, str]:
        """Return what an inversion with this model depends on, by name, as short texts.

        controlled: whether its ControlNet takes part.
        """

    def release(self) -> None:
        """Free the memory that only a run under way needs."""


def words_of(model: Model, text: str) -> list[int]:
    """Return the numbers of the tokens of a text's words, without articles."""
    return [number for _, numbers in model.words_in(text) for number in numbers]
