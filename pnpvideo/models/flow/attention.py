"""Attention layers of a transformer, of which queries and keys are read while it predicts.

They are taken where they are computed, so that layers which are offloaded, or kept in 8 bits, are
not run again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pnpvideo.models.flow.family import Attention

ByPiece = Callable[[Tensor], Tensor]
"""Returns tokens (rows, pieces * tokens, ...) of the pass under way piece by piece:
(rows * pieces, tokens, ...)."""

_AT_ONCE = 1024
"""Queries whose attention weights are in memory together: of 40 heads to 512 tokens, 84 MB."""


def attended(query: Tensor, key: Tensor, heads: int, words: Sequence[int]) -> Tensor:
    """Return how much queries attend to the keys of words, of all keys: (rows, queries).

    query, key: (rows, queries, channels) and (rows, keys, channels), all heads' side by side.
    words: numbers of keys. The sum of their softmax weights, averaged over the heads.
    """
    keys, chosen = _by_head(key, heads), list(words)
    parts = []
    for some in torch.split(query, _AT_ONCE, dim=1):
        queries = _by_head(some, heads)
        weights = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
        parts.append(weights[..., chosen].sum(-1).mean(1))
    return torch.cat(parts, dim=1)


def _by_head(tokens: Tensor, heads: int) -> Tensor:
    """Return tokens (rows, tokens, channels) as (rows, heads, tokens, channels / heads)."""
    return tokens.float().view(*tokens.shape[:2], heads, -1).transpose(1, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A layer of the same name in each of the transformers, of which one predicts at a time."""

    each: tuple[Attention, ...]
    by_piece: ByPiece

    @property
    def heads(self) -> int:
        return self.each[0].heads

    @contextmanager
    def _read(self, see: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
        """Pass a layer's queries and keys to `see` once both are computed, in the context."""
        with ExitStack() as stack:
            for layer in self.each:
                computed: dict[str, Tensor] = {}
                for kind, module in (("query", layer.query), ("key", layer.key)):
                    hook = _keep(computed, kind, see)
                    stack.enter_context(module.register_forward_hook(hook))
            yield


def _keep(
    computed: dict[str, Tensor], kind: str, see: Callable[[Tensor, Tensor], None]
) -> Callable[[Any, Any, Tensor], None]:
    """Return a hook that keeps a module's output until the layer's other one is there, too."""

    def hook(_: Any, __: Any, output: Tensor) -> None:
        computed[kind] = output
        if len(computed) == 2:
            see(computed.pop("query"), computed.pop("key"))

    return hook


class TextAttention(_Layer):
    """A `CrossAttention`."""

    @contextmanager
    def watched(self, words: Sequence[int], see: Callable[[Tensor], None]) -> Iterator[None]:
        def look(query: Tensor, key: Tensor) -> None:
            see(self.by_piece(attended(query, key, self.heads, words)))

        with self._read(look):
            yield


class PictureAttention(_Layer):
    """A `QueriesAndKeys`, whose tokens are the queries and the keys themselves, side by side.

    They are without their places: what is similar is similar wherever it is in the picture.
    """

    def query(self, tokens: Tensor) -> Tensor:
        return tokens.chunk(2, dim=-1)[0]

    def key(self, tokens: Tensor) -> Tensor:
        return tokens.chunk(2, dim=-1)[1]

    @contextmanager
    def watched(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        with self._read(lambda query, key: see(self.by_piece(torch.cat([query, key], dim=-1)))):
            yield
