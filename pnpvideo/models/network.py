"""One call of the UNet for frames that differ in their prompt: what conditions each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pnpvideo.models.device import working_device
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.text_cache import TextKeys


@dataclass(kw_only=True)
class Network:
    """The UNet and what it is told beside latents, timestep and text.

    image_size: (width, height) in pixels, told to an SDXL UNet (Podell et al. 2023, section 2.2).
    """

    unet: Any
    image_size: tuple[int, int]
    text_keys: TextKeys | None = field(default=None, init=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where its inputs must be, and its output is."""
        return working_device(self.unet)

    @contextmanager
    def keeping_text(self) -> Iterator[None]:
        """Make what the network derives from the texts alone only once in the passes within."""
        with TextKeys(self.unet).kept() as self.text_keys:
            try:
                yield
            finally:
                self.text_keys = None

    def predict(
        self, latents: Tensor, timestep: int, texts: PromptEmbeddings, frames: int
    ) -> Tensor:
        """The UNet's output for branch-major latents.

        latents: (branches * frames, c, h, w); texts: one for each branch, in the branches' order.
        The network runs in its own precision; the result has that of the latents, which stays
        float32 at least, so that the rounding of bf16 or fp16 does not add up over the steps.
        """
        dtype = self.unet.dtype
        if self.text_keys is not None:
            self.text_keys.use(texts, frames)
        inputs: dict[str, Any] = {
            "encoder_hidden_states": texts.hidden.to(dtype).repeat_interleave(frames, dim=0)
        }
        if texts.pooled is not None:
            width, height = self.image_size
            time_ids = torch.tensor([[height, width, 0, 0, height, width]])
            inputs["added_cond_kwargs"] = {
                "text_embeds": texts.pooled.to(dtype).repeat_interleave(frames, dim=0),
                "time_ids": time_ids.to(latents.device, dtype).repeat(len(latents), 1),
            }
        output: Tensor = self.unet(latents.to(dtype), timestep, return_dict=False, **inputs)[0]
        return output.to(latents.dtype)
