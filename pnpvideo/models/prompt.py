"""Texts to the embeddings that the UNet is conditioned on, for one or two CLIP text encoders."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.prompt_marks import foreign_marks

Convert = Callable[[list[str], Any], list[str]]
"""Of texts for a tokenizer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PromptEmbeddings:
    """Embeddings of n texts.

    hidden: (n, tokens, channels).
    pooled: (n, channels), where the UNet wants it (SDXL).
    """

    hidden: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, index: slice) -> "PromptEmbeddings":
        pooled = None if self.pooled is None else self.pooled[index]
        return PromptEmbeddings(hidden=self.hidden[index], pooled=pooled)

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
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return PromptEmbeddings(hidden=self.hidden.to(device, dtype), pooled=pooled)


def concatenate(parts: Sequence[PromptEmbeddings]) -> PromptEmbeddings:
    """The texts of all parts, in order."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return PromptEmbeddings(
        hidden=torch.cat([part.hidden for part in parts]),
        pooled=torch.cat(pooled) if pooled else None,
    )


@torch.no_grad()
def encode_prompt(
    texts: Sequence[str],
    encoders: Sequence[tuple[Any, Any]],
    device: torch.device,
    *,
    clip_skip: int = 0,
    zeros_for_empty: bool = False,
    convert: Convert = lambda texts, tokenizer: texts,
) -> PromptEmbeddings:
    """Embed texts with (tokenizer, text encoder) pairs.

    clip_skip: go without so many of the encoders' last layers. zeros_for_empty: give the empty text
    zeros. convert: writes textual inversions of several vectors out for a tokenizer.
    One pair: its last hidden state (SD 1.x, 2.x). Two pairs: the last but one hidden state of
    each, side by side, and the second's projected embedding (SDXL, Podell et al. 2023, section 2).
    What of a text is cut off, or not read as other tools read it, is said. InputError where there
    are fewer layers than clip_skip wants to leave out.
    """
    for notice in dict.fromkeys(_notices(texts, encoders, convert)):
        _log.warning("%s", notice)
    hidden, pooled = [], None
    for tokenizer, encoder in encoders:
        read = convert(list(texts), tokenizer)
        tokens = tokenizer(
            read,
            padding="max_length",
            max_length=_longest(tokenizer, encoder),
            truncation=True,
            return_tensors="pt",
        )
        mask = None
        if getattr(encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(device)
        output = encoder(
            tokens.input_ids.to(device),
            attention_mask=mask,
            output_hidden_states=len(encoders) > 1 or clip_skip > 0,
        )
        hidden.append(_last_but(clip_skip, encoder, output, large=len(encoders) > 1))
        if len(encoders) > 1:
            pooled = output[0]
    result = PromptEmbeddings(hidden=torch.cat(hidden, dim=-1), pooled=pooled)
    if zeros_for_empty:
        empty = torch.tensor([text == "" for text in texts], device=result.hidden.device)
        result.hidden[empty] = 0
        if result.pooled is not None:
            result.pooled[empty] = 0
    return result


def _last_but(clip_skip: int, encoder: Any, output: Any, *, large: bool) -> Tensor:
    """What the UNet sees of an encoder's layers; a large model never sees the last one's."""
    layers = encoder.config.num_hidden_layers
    if clip_skip > layers - large:
        raise InputError(f"clip_skip is {clip_skip}; give at most {layers - large} for this model")
    if large:
        return output.hidden_states[-2 - clip_skip]  # type: ignore[no-any-return]
    if clip_skip == 0:
        return output.last_hidden_state  # type: ignore[no-any-return]
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    return norm(output.hidden_states[-1 - clip_skip])  # type: ignore[no-any-return]


def _longest(tokenizer: Any, encoder: Any) -> int:
    """Tokens that are read at once; a tokenizer whose files do not say it has no limit."""
    longest: int = tokenizer.model_max_length
    return min(longest, getattr(encoder.config, "max_position_embeddings", longest))


def _notices(
    texts: Sequence[str], encoders: Sequence[tuple[Any, Any]], convert: Convert
) -> Iterator[str]:
    for text in texts:
        yield from foreign_marks(text)
        for tokenizer, encoder in encoders:
            longest = _longest(tokenizer, encoder)
            tokens = tokenizer(
                *convert([text], tokenizer), truncation=False, verbose=False
            ).input_ids
            # The last token that is read is the mark of the end.
            cut = tokenizer.decode(tokens[longest - 1 : -1]).strip()
            if cut:
                yield (
                    f"the prompt {_short(text)!r} is longer than the {longest} tokens that the "
                    f"model reads; it does not see {_short(cut)!r}"
                )


def _short(text: str, longest: int = 100) -> str:
    """A text that fits in a line: of a long one its beginning and its end."""
    text = " ".join(text.split())
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"
