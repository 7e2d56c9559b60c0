"""A flow-matching transformer as a `Network`."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device, unwrap_module
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.device import set_aside
from pnpvideo.models.flow.family import Experts, Family, Place
from pnpvideo.models.network import Batch, Change, HookPoint, SelfAttention

KINDS = {"q": "queries", "k": "keys", "v": "values", "f": "output features"}
"""The parts of a block that can be injected, by their letters in a table."""


class FlowNetwork:
    """The `TransformerNetwork` of a family's transformers.

    latents_per_token: the latents along a side that make one token.
    """

    def __init__(self, experts: Experts, family: Family, latents_per_token: int) -> None:
        self.experts = Experts(
            first=unwrap_module(experts.first),
            second=unwrap_module(experts.second),
            boundary=experts.boundary,
        )
        self.family = family
        self.latents_per_token = latents_per_token
        self.batch: Batch | None = None
        self.changes = 0
        """How many kinds of its tokens are changed at present."""
        self._last: Any = None
        """The transformer that predicted last."""

    @property
    def transformers(self) -> tuple[Any, ...]:
        """All transformers. They have the same blocks."""
        return self.experts.present

    @cached_property
    def device(self) -> torch.device:
        device: torch.device = get_module_execution_device(self.transformers[0])
        return device

    @cached_property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformers[0].dtype
        return dtype

    def predict(self, batch: Batch) -> Tensor:
        self.batch = batch
        try:
            latents = batch.latents.to(self.device, self.dtype)
            texts = batch.texts.to(self.device, self.dtype).for_pieces(batch.piece_count)
            velocity = partial(self.family.velocity, self._expert(batch.timestep))
            if self.family.window is not None and not self.changes:
                # A row has tokens enough to keep a GPU busy, and this takes the least memory.
                output = torch.cat(
                    [
                        velocity(latents[row : row + 1], batch.timestep, texts[row : row + 1])
                        for row in range(len(latents))
                    ]
                )
            else:
                output = velocity(latents, batch.timestep, texts)
        finally:
            self.batch = None
        return output.to(batch.latents.dtype)

    def _expert(self, timestep: float) -> Any:
        """Return the transformer that predicts at a timestep, and make room for it."""
        expert = self.experts.at(timestep)
        if expert is not self._last:
            for other in self.transformers:
                if other is not expert:
                    set_aside(other)
            self._last = expert
        return expert

    def feature(self, name: str) -> HookPoint:
        raise InputError(
            f"{self.family.name} does not have features of a UNet, such as {name!r}; name blocks "
            "to inject into (blocks, in pnp.json)"
        )

    def attentions(self, name: str) -> Sequence[SelfAttention]:
        raise InputError(
            f"{self.family.name} does not have attention layers of a UNet, such as {name!r}; name "
            "blocks to inject into (blocks, in pnp.json)"
        )

    def tokens_of(self, block: str, kind: str) -> "_PictureTokens":
        places = [place_of(self.family, one, block, kind) for one in self.transformers]
        return _PictureTokens(self, tuple(places))

    @property
    def middle_tokens(self) -> "_PictureTokens":
        stack = self.family.stacks[0]
        return self.tokens_of(f"{stack}.{len(getattr(self.transformers[0], stack)) // 2}", "f")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of all blocks with picture tokens."""
        return self.family.block_names(self.transformers[0])

    @contextmanager
    def skipping(self, block: str) -> Iterator[None]:
        """Let a block return the tokens that it is given, within the context."""
        modules = [transformer.get_submodule(block) for transformer in self.transformers]
        # Its own, as what moves or casts weights puts another forward in its place.
        signature = inspect.signature(type(modules[0]).forward)

        def hook(module: Any, args: Any, keywords: dict[str, Any], output: Any) -> Any:
            given = signature.bind(module, *args, **keywords).arguments
            if isinstance(output, Tensor):
                return given.get("hidden_states", given.get("x"))
            text, _picture = output  # The last block may return no text.
            return None if text is None else given["encoder_hidden_states"], given["hidden_states"]

        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(module.register_forward_hook(hook, with_kwargs=True))
            yield

    @property
    def picture_tokens(self) -> int:
        """The number of picture tokens in each row of the pass under way."""
        assert self.batch is not None
        *frames, height, width = self.batch.latents.shape[2:]
        per_token = self.latents_per_token
        return math.prod(frames) * (height // per_token) * (width // per_token)


def place_of(family: Family, transformer: Any, block: str, kind: str) -> Place:
    """Return where a block computes picture tokens of a kind. InputError if it does not."""
    place = family.place(unwrap_module(transformer), block, kind) if kind in KINDS else None
    if place is None:
        what = KINDS.get(kind, f"{kind!r}")
        raise InputError(
            f"{family.name} has no block {block!r} with {what} to inject into; give blocks such as "
            f'"{family.stacks[0]}.0", each with letters of q, k, v and f'
        )
    return place


@dataclass(frozen=True, eq=False)
class _PictureTokens:
    """A `PictureTokens`: a part of the output of one module, in each of the transformers."""

    network: FlowNetwork
    places: tuple[Place, ...]

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        with ExitStack() as stack:
            for place in self.places:
                hook = self._hook(place, change)
                stack.enter_context(place.module.register_forward_hook(hook))
            self.network.changes += 1
            try:
                yield
            finally:
                self.network.changes -= 1

    def _hook(self, place: Place, change: Change) -> Callable[..., Tensor | None]:
        """Return a hook that applies a change to these tokens of a module's output."""

        def hook(_: Any, __: Any, output: Tensor) -> Tensor | None:
            count = self.network.picture_tokens
            first = output.shape[1] - count if place.are_last else 0
            channels = slice(*(place.channels or (None,)))
            part = output[:, first : first + count, channels]
            changed = change(part)
            if changed is part:
                return None
            output = output.clone()
            output[:, first : first + count, channels] = changed
            return output

        return hook
