"""The text's keys and values in cross-attention, made once instead of at every step and frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pnpvideo.models.prompt import PromptEmbeddings


class TextKeys:
    """What a UNet's cross-attention layers make of texts, which no step changes.

    Within `kept`, a layer's projection sees each text once, and then none.
    """

    def __init__(self, unet: Any) -> None:
        crossing = [m for m in unet.modules() if getattr(m, "is_cross_attention", False)]
        self.projections = [layer for m in crossing for layer in (m.to_k, m.to_v)]
        self._made: dict[Any, Tensor] = {}
        self._texts: dict[Any, PromptEmbeddings] = {}
        self._now: Any = None
        self._frames = 0

    @contextmanager
    def kept(self) -> Iterator["TextKeys"]:
        """Keep what is made, until leaving; the UNet is then exactly as it was."""
        hooks = []
        try:
            for layer in self.projections:
                hooks.append(layer.register_forward_pre_hook(self._leave_out))
                hooks.append(layer.register_forward_hook(self._put_in))
            yield self
        finally:
            for hook in hooks:
                hook.remove()
            self._made, self._texts, self._now = {}, {}, None

    def use(self, texts: PromptEmbeddings, frames: int) -> None:
        """Say that the next pass has these texts, each for so many frames."""
        # Parts of one tensor are other objects at every step, but they stay where they are.
        self._now = (texts.hidden.data_ptr(), len(texts))
        # While it is held, no other tensor can come to lie there.
        self._texts.setdefault(self._now, texts)
        self._frames = frames

    def _leave_out(self, layer: Any, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if self._now is None:
            return None
        known = (layer, self._now) in self._made
        return (inputs[0][:0] if known else inputs[0][:: self._frames],)

    def _put_in(self, layer: Any, inputs: Any, output: Tensor) -> Tensor:
        if self._now is None:
            return output
        made = self._made.setdefault((layer, self._now), output)
        return made.repeat_interleave(self._frames, dim=0)
