"""The differences between the families of flow-matching transformers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import diffusers
import numpy as np
import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import ImageAutoencoder
from pnpvideo.models.model import Autoencoder, Window
from pnpvideo.models.noise_schedule import NoiseSchedule, flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.options.method import PnPOptions

Grid = tuple[int, int]
"""The (height, width) of a picture in tokens."""

AttendsTo = Literal["picture", "text"]
"""The tokens that a layer's picture tokens attend to."""

Turn = Callable[[], AbstractContextManager[None]]
"""Keeps other threads from using a model within its context."""


_FEW_STEPS = ("turbo", "schnell", "lightning")
"""Words in the names of models that were distilled to few steps."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The module whose output holds one kind of picture tokens of a block.

    are_last: whether the picture's tokens come after others, such as the text's. channels: the
    first channel of the output that is of this kind, and the one after the last; None: all are.
    """

    module: Any
    are_last: bool = False
    channels: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The modules whose outputs are an attention layer's queries and keys, before their places are
    added: (rows, tokens, channels), all heads' side by side.
    """

    query: Any
    key: Any
    heads: int


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The transformers of a model, one of which predicts at each timestep.

    first, second: None for one that the model lacks. boundary: the second predicts at timesteps
    below this one; None: the first always predicts.
    """

    first: Any
    second: Any = None
    boundary: float | None = None

    @property
    def present(self) -> tuple[Any, ...]:
        """Those that the model has, of which there is at least one."""
        return tuple(one for one in (self.first, self.second) if one is not None)

    def at(self, timestep: float) -> Any:
        """Return the one that predicts at a timestep. InputError if the model lacks it."""
        is_first = self.boundary is None or timestep >= self.boundary
        expert = self.first if is_first else self.second
        if expert is None:
            name = "transformer" if is_first else "transformer_2"
            raise InputError(f"the model has no {name}, which predicts at timestep {timestep:.0f}")
        return expert


class Family(ABC):
    """A family of models: their parts, as the pipeline of diffusers for them uses them.

    name: what messages call the model. encoders: the names of the text encoders that a model must
    have; optional: of those that it may lack. transformers: the names of the parts that predict.
    """

    name: ClassVar[str]
    encoders: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    transformers: ClassVar[tuple[str, ...]] = ("transformer",)
    transformer: ClassVar[str]
    """The class of the transformers in diffusers."""
    schedulers: ClassVar[tuple[str, ...]] = ("FlowMatchEulerDiscreteScheduler",)
    """The classes of schedulers whose levels fit."""
    window: ClassVar[Window | None] = None
    """For models of videos, how the latents of a scene go through the network: (rows, c, n, h, w).
    """
    packing: ClassVar[int] = 1
    """The latents along a side of what diffusers' pipeline holds as one token between its steps."""
    stacks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)
    """The names of the transformer's lists of blocks with picture tokens; first, one whose middle
    block sees picture and text."""
    autoencoders: ClassVar[tuple[str, ...]] = ("AutoencoderKL", "AutoencoderTiny")
    """The classes of autoencoders that fit."""

    @property
    @abstractmethod
    def options(self) -> PnPOptions:
        """Return the options that suit these models, if no file in their folder overrides them."""

    @abstractmethod
    def encode(self, pipe: Any, text: str) -> PromptEmbeddings:
        """Embed one text as the pipeline of diffusers does."""

    @abstractmethod
    def velocity(
        self, transformer: Any, latents: Tensor, timestep: float, texts: PromptEmbeddings
    ) -> Tensor:
        """Return the velocity, noise - clean, in the shape of the latents.

        latents: (rows, c, h, w), or of videos (rows, c, n, h, w). timestep: 1000 sigma. texts: one
        for each row. All are on the transformer's device and in its precision.
        """

    @abstractmethod
    def sigmas(self, scheduler: Any, steps: int, grid: Grid) -> tuple[list[float] | None, Any]:
        """Return the sigmas and mu that diffusers' pipeline gives the scheduler; None: neither."""

    @abstractmethod
    def place(self, transformer: Any, block: str, kind: str) -> Place | None:
        """Return where a block computes picture tokens of a kind; None if it does not."""

    def attention(self, transformer: Any, block: str, to: AttendsTo) -> Attention | None:
        """Return the layer of a block in which the picture attends to itself, or to the text.

        None where it attends to both at once.
        """
        return None

    def words_in(self, pipe: Any, text: str) -> list[tuple[str, list[int]]] | None:
        """Return the words of a text (see `Model.words_in`); None without cross-attention."""
        return None

    def of(self, pipe: Any) -> "Family":
        """Return the family for one model, if its settings make it a variant."""
        return self

    def experts(self, pipe: Any) -> Experts:
        """Return the transformers of a model."""
        return Experts(first=pipe.transformer)

    def autoencoder(self, vae: Any, turn: Turn) -> Autoencoder:
        """Return the model's autoencoder."""
        return ImageAutoencoder(vae, turn)

    def pixels_per_token(self, pipe: Any) -> int:
        """Return how many pixels along a side make one token."""
        return 2 * int(pipe.vae_scale_factor)

    def side(self, pipe: Any) -> int:
        """Return the number of pixels on a side of the pictures that the model was trained on."""
        return int(pipe.default_sample_size) * int(pipe.vae_scale_factor)

    def block_names(self, transformer: Any) -> tuple[str, ...]:
        """Return the names of all blocks with picture tokens."""
        return tuple(
            f"{stack}.{number}"
            for stack in self.stacks
            for number in range(len(getattr(transformer, stack)))
        )

    def blocks(self, transformer: Any) -> Mapping[str, str]:
        """Return a published table of blocks to inject into, for one kind of transformer."""
        return {}

    def takes_guidance(self, transformer: Any) -> bool:
        """Return whether the network takes the guidance scale as an input."""
        return bool(transformer.config.get("guidance_embeds", False))

    def longest_side(self, transformer: Any) -> int | None:
        """Return how many tokens a side of a picture may have; None: any number."""
        return None

    @abstractmethod
    def sizes(self, pipe: Any) -> list[tuple[str, int, int]]:
        """Return of each part its name, its channels, and those that the transformer takes."""

    def misfit(self, pipe: Any) -> str | None:
        """Return in words how parts belong to different models; None if all fit."""
        for what, given, wanted in self.sizes(pipe):
            if given != wanted:
                return f"{what} has {given} channels, and the transformer takes {wanted}"
        return None

    def is_distilled(self, pipe: Any) -> bool:
        """Return whether a model was distilled to few steps, as its name or its parts say."""
        name = str(pipe.name_or_path).lower()
        return any(word in name for word in _FEW_STEPS)

    def rescaled(self, guided: Tensor, prediction: Tensor) -> Tensor:
        """Return guided predictions (..., c, h, w) as the family's pipeline scales them."""
        return guided

    def unusable(self, scheduler: Any) -> str | None:
        """Return in words what of a scheduler's settings cannot be inverted; None if all can."""
        for name in ("stochastic_sampling", "invert_sigmas"):
            if scheduler.config.get(name):
                return (
                    f"has {name}, and inversion cannot undo its steps; set {name} to false in "
                    "scheduler_config.json"
                )
        return None

    def schedule(self, scheduler: Any, steps: int, grid: Grid, parts: int = 1) -> NoiseSchedule:
        """Return the noise levels of a run, as diffusers' pipeline has them.

        parts: see `flow_schedule`.
        """
        return flow_schedule(
            self._set(scheduler, steps, grid).sigmas.double().tolist(), parts=parts
        )

    def _set(self, scheduler: Any, steps: int, grid: Grid) -> Any:
        """Return a copy of a scheduler that is set to so many steps, from 1 to 0."""
        known = tuple(getattr(diffusers, name) for name in self.schedulers)
        if not isinstance(scheduler, known):
            raise InputError(
                f"a {type(scheduler).__name__} does not have the levels of {self.name}; give the "
                f"pipeline {self.schedulers[-1]}.from_config(its config)"
            )
        own = deepcopy(scheduler)
        sigmas, mu = self.sigmas(own, steps, grid)
        keywords = {} if mu is None else {"mu": mu}
        given = {"num_inference_steps": steps} if sigmas is None else {"sigmas": sigmas}
        with np.errstate(all="ignore"):  # What is not a number is found below.
            own.set_timesteps(**given, **keywords)
        found: list[float] = own.sigmas.double().tolist()
        if not all(map(math.isfinite, found)):
            # A last level that is given (shift_terminal) leaves none for a single step.
            raise InputError(f"steps is {steps}, which is too few for {self.name}; give 2 or more")
        if any(low >= high for high, low in pairwise(found)):
            raise InputError(
                f"steps is {steps}, and the levels of {self.name} are not distinct with so many; "
                "give fewer steps"
            )
        return own


def even_sigmas(steps: int) -> list[float]:
    """Return 1, ..., 1 / steps: what most of diffusers' pipelines give their scheduler."""
    return np.linspace(1.0, 1 / steps, steps).tolist()  # type: ignore[no-any-return]


def linear_mu(scheduler: Any, tokens: int, longest_shift: float = 1.15) -> float:
    """Return the shift of the levels for so many picture tokens (Esser et al. 2024, section 5.3.2).

    longest_shift: at the longest sequence, if the scheduler's configuration has none.
    """
    config = scheduler.config
    short, long = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", longest_shift)
    slope = (high - low) / (long - short)
    # In this order, as diffusers' pipelines round it.
    return float(tokens * slope + (low - slope * short))


def pack(latents: Tensor) -> Tensor:
    """Return latents (rows, c, h, w) as tokens (rows, h w / 4, 4 c), each of 2 x 2 of them."""
    rows, channels, height, width = latents.shape
    cells = latents.view(rows, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(rows, -1, channels * 4)


def unpack(tokens: Tensor, like: Tensor) -> Tensor:
    """Return tokens as `pack` makes them in the shape of latents."""
    rows, channels, height, width = like.shape
    cells = tokens.view(rows, height // 2, width // 2, channels, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)


def timesteps_of(latents: Tensor, timestep: float) -> Tensor:
    """Return a timestep for each row, in float32 at least."""
    dtype = torch.promote_types(latents.dtype, torch.float32)
    return torch.full((len(latents),), timestep, dtype=dtype, device=latents.device)


def module_of(transformer: Any, name: str) -> Any:
    """Return a module of a transformer by its name; None if there is none."""
    module = transformer
    for part in name.split("."):
        module = getattr(module, part, None)
    return module
