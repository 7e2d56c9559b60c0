"""The UNet of Stable Diffusion 1.x, 2.x or XL as a `Network`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import get_ident
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.device import working_device
from pnpvideo.models.network import (
    Batch,
    Change,
    DecoderLayer,
    HookPoint,
    InjectionLayers,
    SelfAttention,
)


def default_layers(unet: Any) -> InjectionLayers:
    """Return the paper's layers (4 for features, 4 to 11 for attention), by rule for other UNets.

    The rule, for any UNet: the second residual block of the decoder level that works at a quarter
    of the latents' resolution, and every self-attention from there on. SD 1.x and 2.x:
    up_blocks[1].resnets[1], which is layer 4. SDXL, with one level fewer: up_blocks[0].resnets[1].
    """
    level = max(len(unet.up_blocks) - 3, 0)
    place = min(1, len(unet.up_blocks[level].resnets) - 1)
    attentions = [
        f"up_blocks.{b}.attentions.{i}"
        for b, block in enumerate(unet.up_blocks)
        for i in range(len(getattr(block, "attentions", ())))
        if (b, i) >= (level, place)
    ]
    return InjectionLayers(
        features=(f"up_blocks.{level}.resnets.{place}",), attentions=tuple(attentions)
    )


def takes_guidance(unet: Any) -> bool:
    """Return whether a UNet takes the guidance scale as an input.

    Consistency models distilled from guided ones do (Luo et al. 2023, "Latent Consistency Models",
    arXiv 2310.04378, section 4.2).
    """
    return unet.config.get("time_cond_proj_dim") is not None


class UNet:
    """The `Network` of a UNet, which also gets the picture's size if it needs that (SDXL).

    pixels: the pixels per side for one latent, to compute that size.
    """

    def __init__(self, unet: Any, pixels: int) -> None:
        self.unet = unwrap_module(unet)
        self.pixels = pixels
        self.batch: Batch | None = None
        self._modules = dict(self.unet.named_modules())

    # diffusers looks through all modules for each of these two, some milliseconds at every pass.

    @cached_property
    def device(self) -> torch.device:
        return working_device(self.unet)

    @cached_property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.unet.dtype
        return dtype

    def predict(self, batch: Batch) -> Tensor:
        self.batch = batch
        try:
            latents = batch.latents.to(self.dtype)
            inputs = self._conditions(batch)
            output: Tensor = self.unet(latents, batch.timestep, return_dict=False, **inputs)[0]
        finally:
            self.batch = None
        return output.to(batch.latents.dtype)

    def _conditions(self, batch: Batch) -> dict[str, Any]:
        """Return the conditions to denoise a batch's latents under, as keywords of diffusers."""
        dtype, frames = self.dtype, batch.piece_count
        latents, texts = batch.latents, batch.texts
        inputs: dict[str, Any] = {
            "encoder_hidden_states": texts.hidden.to(dtype).repeat_interleave(frames, dim=0)
        }
        if texts.pooled is not None:
            height, width = (side * self.pixels for side in latents.shape[-2:])
            # Podell et al. 2023, section 2.2: the size, what was cropped, and the size again.
            time_ids = torch.tensor([[height, width, 0, 0, height, width]])
            inputs["added_cond_kwargs"] = {
                "text_embeds": texts.pooled.to(dtype).repeat_interleave(frames, dim=0),
                "time_ids": time_ids.to(latents.device, dtype).repeat(len(latents), 1),
            }
        if texts.image is not None:
            image = texts.image.to(dtype).repeat_interleave(frames, dim=0)
            inputs.setdefault("added_cond_kwargs", {})["image_embeds"] = [image]
        if takes_guidance(self.unet):
            # As in diffusers' pipelines: 0 for a scale of 1, which means no guidance.
            scales = torch.tensor(texts.guidance or (1.0,) * len(texts), dtype=torch.float64)
            embedding = StableDiffusionPipeline.get_guidance_scale_embedding(
                self, (scales - 1).float(), self.unet.config.time_cond_proj_dim
            )
            inputs["timestep_cond"] = embedding.to(latents.device, dtype).repeat_interleave(
                frames, dim=0
            )
        return inputs

    @property
    def decoder(self) -> list[DecoderLayer]:
        return [
            DecoderLayer(
                feature=f"up_blocks.{b}.resnets.{i}",
                attention=f"up_blocks.{b}.attentions.{i}" if hasattr(block, "attentions") else None,
            )
            for b, block in enumerate(self.unet.up_blocks)
            for i in range(len(block.resnets))
        ]

    def feature(self, name: str) -> HookPoint:
        block = self._module(name)
        if not hasattr(block, "conv2"):
            raise InputError(f"{name!r} is not a residual block, so it has no features to inject")
        return _ResidualBranch(block)

    def attentions(self, name: str) -> list[SelfAttention]:
        if name == "mid_block" and self.unet.mid_block is None:
            return []
        return [_Attention(layer) for layer in _self_attentions(self._module(name))]

    @property
    def text_projections(self) -> list[HookPoint]:
        layers = (crossing.layer for crossing in self.cross_attentions)
        return [_Module(one) for layer in layers for one in (layer.to_k, layer.to_v)]

    @property
    def cross_attentions(self) -> list["_CrossAttention"]:
        modules = self.unet.modules()
        return [_CrossAttention(m) for m in modules if getattr(m, "is_cross_attention", False)]

    @property
    def layers_before_text(self) -> list[HookPoint]:
        if self.unet.config.addition_embed_type is not None:
            return []  # A text is in the timestep's embedding, so no layer is without one.
        block = self.unet.down_blocks[0]
        if not getattr(block, "has_cross_attention", False):
            return [_Module(resnet) for resnet in block.resnets]
        attention = block.attentions[0].transformer_blocks[0].attn1
        return [_Module(layer) for layer in (block.resnets[0], *_self_attentions(attention))]

    @property
    def matching_layers(self) -> list[SelfAttention]:
        """The first layers in the middle and of each decoder level."""
        middle = [] if self.unet.mid_block is None else [self.unet.mid_block]
        levels = [_self_attentions(block) for block in (*middle, *self.unet.up_blocks)]
        return [_Attention(layers[0]) for layers in levels if layers]

    def grid(self, tokens: int, height: int, width: int) -> tuple[int, int]:
        """Return the grid of so many tokens. Each level halves the sides, rounded up."""
        while height * width > tokens:
            height, width = -(-height // 2), -(-width // 2)
        return height, width

    def _module(self, name: str) -> Any:
        if name not in self._modules:
            raise InputError(f"the UNet has no module {name!r} to inject into")
        return self._modules[name]


@dataclass(frozen=True)
class _Module:
    """A hook point from a module's inputs to its output."""

    module: Any

    @contextmanager
    def changed(self, enter: Change, leave: Change) -> Iterator[None]:
        with ExitStack() as hooks:
            hooks.enter_context(_changed_inputs(self.module, enter))
            hooks.enter_context(_changed_output(self.module, leave))
            yield


@dataclass(frozen=True)
class _ResidualBranch:
    """A block's residual branch, from its first norm to its second convolution."""

    block: Any

    @contextmanager
    def changed(self, enter: Change, leave: Change) -> Iterator[None]:
        with ExitStack() as hooks:
            hooks.enter_context(_changed_inputs(self.block.norm1, enter))
            if self.block.time_emb_proj is not None:
                hooks.enter_context(_changed_output(self.block.time_emb_proj, enter))
            hooks.enter_context(_changed_output(self.block.conv2, leave))
            yield


def _changed_inputs(module: Any, change: Change) -> Any:
    """Hook a module's inputs; leaving the returned context removes the hook."""
    return module.register_forward_pre_hook(_here(lambda _, inputs: tuple(map(change, inputs))))


def _changed_output(module: Any, change: Change) -> Any:
    """Hook a module's output; leaving the returned context removes the hook."""
    return module.register_forward_hook(_here(lambda _, inputs, output: change(output)))


def _here(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook for the calling thread alone.

    Another thread may run the same module by itself, for instance in a pipeline of diffusers.
    """
    own = get_ident()
    return lambda *given: hook(*given) if get_ident() == own else None


@dataclass(frozen=True)
class _Attention:
    """A self-attention layer of diffusers."""

    layer: Any

    @property
    def heads(self) -> int:
        heads: int = self.layer.heads
        return heads

    def query(self, tokens: Tensor) -> Tensor:
        return self.layer.to_q(tokens)  # type: ignore[no-any-return]

    def key(self, tokens: Tensor) -> Tensor:
        return self.layer.to_k(tokens)  # type: ignore[no-any-return]

    def value(self, tokens: Tensor) -> Tensor:
        return self.layer.to_v(tokens)  # type: ignore[no-any-return]

    def project(self, output: Tensor) -> Tensor:
        return self.layer.to_out[1](self.layer.to_out[0](output))  # type: ignore[no-any-return]

    @contextmanager
    def replaced(self, by: Change) -> Iterator[None]:
        before = self.layer.get_processor()
        self.layer.set_processor(_Processor(by, before))
        try:
            yield
        finally:
            self.layer.set_processor(before)

    @contextmanager
    def watched(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        with self.layer.register_forward_pre_hook(_here(lambda _, inputs: see(inputs[0]))):
            yield


@dataclass(frozen=True)
class _CrossAttention:
    """A cross-attention layer of diffusers."""

    layer: Any

    @contextmanager
    def watched(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        def look(_: Any, inputs: tuple[Tensor], named: dict[str, Any]) -> None:
            layer, words = self.layer, named["encoder_hidden_states"]
            if isinstance(words, tuple):  # With what an IP-Adapter sees of a picture.
                words = words[0]
            query, key = (
                layer.head_to_batch_dim(tokens)
                for tokens in (layer.to_q(inputs[0]), layer.to_k(words))
            )
            attended = layer.get_attention_scores(query, key)
            see(attended.unflatten(0, (-1, layer.heads)).mean(1))

        with self.layer.register_forward_pre_hook(_here(look), with_kwargs=True):
            yield


class _Processor:
    """A processor that diffusers calls in place of a layer's own computation.

    before: the processor that it replaces, which still computes for other threads.
    """

    def __init__(self, compute: Change, before: Callable[..., Tensor]) -> None:
        self.compute = compute
        self.before = before
        self.thread = get_ident()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        if get_ident() != self.thread:
            others |= {"encoder_hidden_states": encoder_hidden_states}
            return self.before(attn, hidden_states, attention_mask=attention_mask, **others)
        if encoder_hidden_states is not None or attention_mask is not None:
            raise RuntimeError("injection works on self-attention without a mask only")
        return self.compute(hidden_states)


def _self_attentions(place: torch.nn.Module) -> list[Any]:
    """Return the self-attention layers in a module, or the module itself if it is one."""
    return [
        module
        for module in place.modules()
        if hasattr(module, "set_processor") and _is_plain_self_attention(module)
    ]


def _is_plain_self_attention(attn: Any) -> bool:
    """Return whether the parts of `_Attention` are all that the layer computes."""
    return (
        not attn.is_cross_attention
        and attn.group_norm is None
        and attn.spatial_norm is None
        and attn.norm_q is None
        and attn.norm_k is None
        and not attn.residual_connection
        and attn.rescale_output_factor == 1
    )
