"""Texts to the embeddings that a network is conditioned on, for one or two CLIP text encoders."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.errors import InputError
from pnpvideo.models.prompt_marks import foreign_marks
from pnpvideo.models.prompt_weights import chunks_of

Convert = Callable[[list[str], Any], list[str]]
"""Of texts for a tokenizer."""

ARTICLES = ("a", "an", "the", "A", "An", "The")
"""Words that name nothing."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PromptEmbeddings:
    """Embeddings of n texts.

    hidden: (n, tokens, channels).
    pooled: (n, channels), if the UNet needs it (SDXL).
    image: (n, 1, ...), of the picture beside each text, or of none, for an IP-Adapter.
    guidance: the guidance scale of each text, for networks that take it as an input, as those
        distilled from guided ones do; None for other networks.
    lengths: the number of tokens of each text, which padding follows; None if all tokens count.
        Texts with lengths are for joint attention, where repeated tokens would change the result.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    image: Tensor | None = None
    guidance: tuple[float, ...] | None = None
    lengths: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, index: slice) -> "PromptEmbeddings":
        return replace(
            self._each(lambda tensor: tensor[index]),
            guidance=None if self.guidance is None else self.guidance[index],
            lengths=None if self.lengths is None else self.lengths[index],
        )

    # The same objects at every call, so that what a network has made of them is found again.

    @cached_property
    def first(self) -> "PromptEmbeddings":
        """The first text."""
        return self[:1]

    @cached_property
    def rest(self) -> "PromptEmbeddings":
        """All but the first text."""
        return self[1:]

    def to(self, device: torch.device, dtype: torch.dtype) -> "PromptEmbeddings":
        return self._each(lambda tensor: tensor.to(device, dtype))

    def for_pieces(self, count: int) -> "PromptEmbeddings":
        """Return the same with each text once for each of so many pieces, side by side."""
        return replace(
            self._each(lambda tensor: tensor.repeat_interleave(count, dim=0)),
            guidance=None if self.guidance is None else _each_for(self.guidance, count),
            lengths=None if self.lengths is None else _each_for(self.lengths, count),
        )

    def with_image(self, image: Tensor) -> "PromptEmbeddings":
        """Return the same with one picture's embedding, (1, 1, ...), beside each text."""
        image = image.to(self.hidden.device, self.hidden.dtype)
        return replace(self, image=image.expand(len(self), *image.shape[1:]))

    def with_guidance(self, scale: float) -> "PromptEmbeddings":
        """Return the same with a guidance scale for the network beside each text."""
        return replace(self, guidance=(scale,) * len(self))

    def with_lengths(self, lengths: tuple[int, ...]) -> "PromptEmbeddings":
        """Return the same with the number of tokens of each text."""
        return replace(self, lengths=lengths)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "PromptEmbeddings":
        pooled, image = (None if x is None else change(x) for x in (self.pooled, self.image))
        return replace(self, hidden=change(self.hidden), pooled=pooled, image=image)


def concatenate(parts: Sequence[PromptEmbeddings]) -> PromptEmbeddings:
    """Return the texts of all parts, in order.

    Texts of different lengths are repeated to a common length: cross-attention gives the same
    output if all keys and values are repeated equally often. Texts that state their lengths are
    padded with zeros instead.
    """
    pooled = [part.pooled for part in parts if part.pooled is not None]
    images = [part.image for part in parts if part.image is not None]
    scales = [part.guidance for part in parts if part.guidance is not None]
    lengths = [part.lengths for part in parts if part.lengths is not None]
    hidden = [part.hidden for part in parts]
    return PromptEmbeddings(
        hidden=torch.cat(_padded(hidden) if lengths else _repeated(hidden)),
        pooled=torch.cat(pooled) if pooled else None,
        image=torch.cat(images) if images else None,
        guidance=tuple(chain.from_iterable(scales)) if scales else None,
        lengths=tuple(chain.from_iterable(lengths)) if lengths else None,
    )


def check_shapes(given: PromptEmbeddings, own: PromptEmbeddings, *, any_length: bool) -> None:
    """Raise InputError unless embeddings from outside have the shapes of a model's own.

    any_length: whether texts may have another number of tokens.
    """
    fixed = 2 if any_length else 1
    if given.hidden.shape[fixed:] != own.hidden.shape[fixed:]:
        raise _other_shape("text", given.hidden.shape[1:], own.hidden.shape[1:])
    if given.pooled is not None and own.pooled is not None:
        wanted = len(given), *own.pooled.shape[1:]
        if given.pooled.shape != wanted:
            raise _other_shape("pooled text", given.pooled.shape, wanted)


def _other_shape(name: str, given: Sequence[int], wanted: Sequence[int]) -> InputError:
    return InputError(
        f"the {name} embeddings are {_sides(given)}, and this model needs {_sides(wanted)}; encode "
        "the texts with its own pipeline"
    )


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _each_for(values: tuple[T, ...], count: int) -> tuple[T, ...]:
    return tuple(one for one in values for _ in range(count))


def _padded(texts: Sequence[Tensor]) -> list[Tensor]:
    """Pad the tokens of texts (n, tokens, channels) with zeros to the longest."""
    longest = max(text.shape[1] for text in texts)
    return [functional.pad(text, (0, 0, 0, longest - text.shape[1])) for text in texts]


def _repeated(texts: Sequence[Tensor]) -> list[Tensor]:
    """Repeat the tokens of texts (n, tokens, channels) to a length common to all."""
    longest = math.lcm(*(text.shape[1] for text in texts))
    return [
        text if text.shape[1] == longest else text.repeat(1, longest // text.shape[1], 1)
        for text in texts
    ]


@torch.no_grad()
def encode_prompt(
    texts: Sequence[str],
    encoders: Sequence[tuple[Any, Any]],
    device: torch.device,
    *,
    clip_skip: int = 0,
    weights: bool = False,
    zeros_for_empty: bool = False,
    convert: Convert = lambda texts, tokenizer: texts,
) -> PromptEmbeddings:
    """Embed texts with (tokenizer, text encoder) pairs.

    clip_skip: how many of the encoders' last layers to leave out. weights: read weights, and texts
    of any length (see `prompt_weights`). zeros_for_empty: give the empty text zeros. convert:
    writes out textual inversions of several vectors for a tokenizer.
    One pair: its last hidden state (SD 1.x, 2.x). Two pairs: the last but one hidden state of
    each, side by side, and the second's projected embedding (SDXL, Podell et al. 2023, section 2).
    Of a text in chunks, these are one after the other, and the projected embedding is the first's.
    Parts of a text that are cut off, or not read as other tools read them, are logged as warnings.
    InputError if clip_skip leaves out more layers than there are.
    """
    large = len(encoders) > 1
    readers = [
        _Reader(tokenizer, encoder, device, clip_skip, large, convert)
        for tokenizer, encoder in encoders
    ]
    for notice in dict.fromkeys(_notices(texts, readers, weights=weights)):
        _log.warning("%s", notice)
    if weights:
        read = [concatenate([reader.weighted(text) for text in texts]) for reader in readers]
    else:
        read = [reader.plain(texts) for reader in readers]
    hidden = torch.cat(_repeated([part.hidden for part in read]), dim=-1)
    result = PromptEmbeddings(hidden=hidden, pooled=read[-1].pooled)
    if zeros_for_empty:
        empty = torch.tensor([text == "" for text in texts], device=result.hidden.device)
        result.hidden[empty] = 0
        if result.pooled is not None:
            result.pooled[empty] = 0
    return result


@dataclass(frozen=True)
class _Reader:
    """One text encoder with its tokenizer. large: it is one of two."""

    tokenizer: Any
    encoder: Any
    device: torch.device
    clip_skip: int
    large: bool
    convert: Convert

    @property
    def longest(self) -> int:
        """The number of tokens that are read at once; unlimited if the files do not give it."""
        longest: int = self.tokenizer.model_max_length
        return min(longest, getattr(self.encoder.config, "max_position_embeddings", longest))

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, without those that mark its beginning and end."""
        (read,) = self.convert([text], self.tokenizer)
        ids: list[int] = self.tokenizer(read, truncation=False, verbose=False).input_ids
        return ids[1:-1]

    def plain(self, texts: Sequence[str]) -> PromptEmbeddings:
        """Embed texts as they stand, cut off at the encoder's limit."""
        tokens = self.tokenizer(
            self.convert(list(texts), self.tokenizer),
            padding="max_length",
            max_length=self.longest,
            truncation=True,
            return_tensors="pt",
        )
        return self._embed(tokens.input_ids, tokens.attention_mask)

    def weighted(self, text: str) -> PromptEmbeddings:
        """Embed one text with weighted tokens.

        A token of weight w is e + w (z - e), with z its embedding and e that of the empty text in
        the same place.
        """
        own, comma = self.tokenizer, self.tokenizer.convert_tokens_to_ids(",</w>")
        chunks = chunks_of(text, self.tokens, self.longest - 2, comma)
        rows = torch.full((1 + len(chunks), self.longest), own.pad_token_id)
        mask, weights = torch.zeros_like(rows), torch.ones(rows.shape, dtype=torch.float64)
        for row, tokens in enumerate([(), *(chunk.tokens for chunk in chunks)]):
            whole = [own.bos_token_id, *tokens, own.eos_token_id]
            rows[row, : len(whole)] = torch.tensor(whole)
            mask[row, : len(whole)] = 1
        for row, chunk in enumerate(chunks, start=1):
            weights[row, 1 : 1 + len(chunk.weights)] = torch.tensor(
                chunk.weights, dtype=torch.float64
            )
        embedded = self._embed(rows, mask)
        nothing, read = embedded.hidden[:1], embedded.hidden[1:]
        weight = weights[1:, :, None].to(read)
        hidden = torch.where(weight == 1, read, nothing + weight * (read - nothing))
        pooled = None if embedded.pooled is None else embedded.pooled[1:2]
        return PromptEmbeddings(hidden=hidden.flatten(0, 1)[None], pooled=pooled)

    def _embed(self, tokens: Tensor, mask: Tensor) -> PromptEmbeddings:
        """Embed tokens (n, longest). mask: 1 at tokens that are not padding, else 0."""
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        output = self.encoder(
            tokens.to(self.device),
            attention_mask=mask.to(self.device) if masked else None,
            output_hidden_states=self.large or self.clip_skip > 0,
        )
        hidden = _last_but(self.clip_skip, self.encoder, output, large=self.large)
        return PromptEmbeddings(hidden=hidden, pooled=output[0] if self.large else None)


def _last_but(clip_skip: int, encoder: Any, output: Any, *, large: bool) -> Tensor:
    """Return the output of the layer that the UNet reads; SDXL never reads the last layer."""
    layers = encoder.config.num_hidden_layers
    if clip_skip > layers - large:
        raise InputError(f"clip_skip is {clip_skip}; give at most {layers - large} for this model")
    if large:
        return output.hidden_states[-2 - clip_skip]  # type: ignore[no-any-return]
    if clip_skip == 0:
        return output.last_hidden_state  # type: ignore[no-any-return]
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    return norm(output.hidden_states[-1 - clip_skip])  # type: ignore[no-any-return]


def _notices(texts: Sequence[str], readers: Sequence[_Reader], *, weights: bool) -> Iterator[str]:
    for text in texts:
        yield from foreign_marks(text, weights=weights)
        for reader in [] if weights else readers:
            # The tokens that are read have a mark at either end.
            cut = reader.tokenizer.decode(reader.tokens(text)[reader.longest - 2 :]).strip()
            if cut:
                yield (
                    f"the prompt {_short(text)!r} is longer than the {reader.longest} tokens that "
                    f"the model reads; it does not see {_short(cut)!r} (--prompt-weights lets it "
                    "see all)"
                )


def _short(text: str, longest: int = 100) -> str:
    """Shorten a text to one line: the beginning and the end of a long one."""
    text = " ".join(text.split())
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"
