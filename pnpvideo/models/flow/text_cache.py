"""Embeddings of texts, kept while the text encoders stay as they are.

A run embeds its texts several times, and with offloading each time moves encoders of many gigabytes
to the device and the transformer off it.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from weakref import ref

import torch

from pnpvideo.models.lora_layers import lora_layers
from pnpvideo.models.prompt import PromptEmbeddings

_MOST = 64
"""Texts; of FLUX.1 each takes 4 MB."""


class TextCache:
    """The last embeddings that the encoders of a pipeline made."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, PromptEmbeddings] = OrderedDict()
        self._state: object = None

    def of(
        self, text: str, pipe: Any, embed: Callable[[str], PromptEmbeddings]
    ) -> PromptEmbeddings:
        """Return a text's embedding, made now or earlier by the same encoders."""
        state = _state_of(pipe)
        if state != self._state:
            self._kept.clear()
            self._state = state
        if text not in self._kept:
            self._kept[text] = embed(text)
        self._kept.move_to_end(text)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return self._kept[text]


def _state_of(pipe: Any) -> object:
    """Return what changes when an encoder or a tokenizer does: is replaced, converted or trained,
    or has a LoRA loaded, scaled or fused.
    """
    names = ("text_encoder", "tokenizer")
    parts = [part for name, part in sorted(pipe.components.items()) if name.startswith(names)]
    encoders = [part for part in parts if isinstance(part, torch.nn.Module)]
    changes = [
        (weight.dtype, 0 if weight.is_inference() else weight._version)
        for encoder in encoders
        for weight in encoder.parameters()
    ]
    loras = [(tuple(layer.active_adapters), dict(layer.scaling)) for layer in lora_layers(encoders)]
    return [None if part is None else ref(part) for part in parts], changes, loras
