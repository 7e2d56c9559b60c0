"""A flow-matching transformer as a `Network`."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device, unwrap_module
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.flow.family import Family, Place
from pnpvideo.models.network import Batch, Change, HookPoint, SelfAttention

KINDS = {"q": "queries", "k": "keys", "v": "values", "f": "output features"}
"""What can be injected of a block, by the letter that a table has for it."""


class FlowNetwork:
    """The `TransformerNetwork` of a family's transformer.

    latents_per_token: the latents along a side that make one token.
    """

    def __init__(self, transformer: Any, family: Family, latents_per_token: int) -> None:
        self.transformer = unwrap_module(transformer)
        self.family = family
        self.latents_per_token = latents_per_token
        self.batch: Batch | None = None

    @cached_property
    def device(self) -> torch.device:
        device: torch.device = get_module_execution_device(self.transformer)
        return device

    @cached_property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    def predict(self, batch: Batch) -> Tensor:
        self.batch = batch
        try:
            latents = batch.latents.to(self.device, self.dtype)
            texts = batch.texts.to(self.device, self.dtype).for_pieces(batch.piece_count)
            output = self.family.velocity(self.transformer, latents, batch.timestep, texts)
        finally:
            self.batch = None
        return output.to(batch.latents.dtype)

    def feature(self, name: str) -> HookPoint:
        raise InputError(
            f"{self.family.name} has no UNet's features, such as {name!r}; name its blocks to "
            "inject into (blocks, in pnp.json)"
        )

    def attentions(self, name: str) -> Sequence[SelfAttention]:
        raise InputError(
            f"{self.family.name} has no UNet's attention, such as {name!r}; name its blocks to "
            "inject into (blocks, in pnp.json)"
        )

    def tokens_of(self, block: str, kind: str) -> "_PictureTokens":
        return _PictureTokens(self, place_of(self.family, self.transformer, block, kind))

    @property
    def middle_tokens(self) -> "_PictureTokens":
        stack = self.family.stacks[0]
        return self.tokens_of(f"{stack}.{len(getattr(self.transformer, stack)) // 2}", "f")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of all blocks with picture tokens."""
        return self.family.block_names(self.transformer)

    @contextmanager
    def skipping(self, block: str) -> Iterator[None]:
        """Let a block return the tokens that it is given, within the context."""
        module = self.transformer.get_submodule(block)
        # Its own, as what moves or casts weights puts another forward in its place.
        signature = inspect.signature(type(module).forward)

        def hook(_: Any, args: Any, keywords: dict[str, Any], output: Any) -> Any:
            given = signature.bind(module, *args, **keywords).arguments
            if isinstance(output, Tensor):
                return given.get("hidden_states", given.get("x"))
            text, _picture = output  # The last block may return no text.
            return None if text is None else given["encoder_hidden_states"], given["hidden_states"]

        with module.register_forward_hook(hook, with_kwargs=True):
            yield

    @property
    def picture_tokens(self) -> int:
        """The number of picture tokens in each row of the pass under way."""
        assert self.batch is not None
        height, width = (side // self.latents_per_token for side in self.batch.latents.shape[-2:])
        return height * width


def place_of(family: Family, transformer: Any, block: str, kind: str) -> Place:
    """Return where a block computes picture tokens of a kind. InputError if it does not."""
    place = family.place(unwrap_module(transformer), block, kind) if kind in KINDS else None
    if place is None:
        what = KINDS.get(kind, f"{kind!r}")
        raise InputError(
            f"{family.name} has no block {block!r} with {what} to inject into; give blocks such as "
            '"transformer_blocks.0", each with letters of q, k, v and f'
        )
    return place


@dataclass(frozen=True, eq=False)
class _PictureTokens:
    """A `PictureTokens`: a part of the output of one module."""

    network: FlowNetwork
    place: Place

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        place = self.place

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

        with place.module.register_forward_hook(hook):
            yield
