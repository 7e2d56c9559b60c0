"""The injector: puts the source's features, queries and keys into the target's passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pnpvideo.attend_frames import InjectedSelfAttention, is_plain_self_attention
from pnpvideo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class InjectionLayers:
    """Where to inject, as module names of the UNet.

    features: residual blocks, such as "up_blocks.1.resnets.1".
    attentions: self-attention layers, or modules that hold some, such as "up_blocks.2".
    """

    features: tuple[str, ...]
    attentions: tuple[str, ...]


def default_layers(unet: Any) -> InjectionLayers:
    """The paper's layer 4 for features and 4 to 11 for attention, by rule for other UNets.

    The rule: the second residual block of the decoder level that works at a quarter of the
    latents' resolution, and every self-attention from there on. SD 1.x and 2.x:
    up_blocks[1].resnets[1], which is layer 4. SDXL, with one level less: up_blocks[0].resnets[1].
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


class FeatureInjector:
    """Injects into one UNet, between entering and leaving `installed()`.

    Batches are branch-major: first the source's frames, then as many for each target branch.
    """

    def __init__(self, unet: torch.nn.Module, layers: InjectionLayers | None = None) -> None:
        layers = layers or default_layers(unet)
        modules = dict(unet.named_modules())
        for name in (*layers.features, *layers.attentions):
            if name not in modules:
                raise InputError(f"the UNet has no module {name!r} to inject into")
        self.convolutions: list[Any] = []
        for name in layers.features:
            if not hasattr(modules[name], "conv2"):
                raise InputError(f"{name!r} is no residual block, so it has no features to inject")
            self.convolutions.append(modules[name].conv2)
        self.attentions: list[Any] = []
        for place in layers.attentions:
            found = [
                module
                for name, module in modules[place].named_modules(prefix=place)
                if hasattr(module, "set_processor") and is_plain_self_attention(module)
            ]
            if not found:
                raise InputError(f"{place!r} holds no self-attention to inject into")
            self.attentions += [module for module in found if module not in self.attentions]
        self._installed = False
        self._feature_frames = 0
        self._attention_frames = 0

    @contextmanager
    def installed(self) -> Iterator["FeatureInjector"]:
        """Install hooks and processors; on leaving, the UNet is exactly as it was."""
        if self._installed:
            raise RuntimeError("this injector is installed already")
        self._installed = True
        before = [attention.get_processor() for attention in self.attentions]
        hooks = []
        try:
            for attention in self.attentions:
                attention.set_processor(InjectedSelfAttention(lambda: self._attention_frames))
            for convolution in self.convolutions:
                hooks.append(convolution.register_forward_hook(self._replace_features))
            yield self
        finally:
            for hook in hooks:
                hook.remove()
            for attention, processor in zip(self.attentions, before, strict=True):
                attention.set_processor(processor)
            self._installed = False

    @contextmanager
    def injecting(self, frames: int, *, features: bool, attention: bool) -> Iterator[None]:
        """Inject in the passes within, whose batches begin with this many source frames."""
        self._feature_frames = frames if features else 0
        self._attention_frames = frames if attention else 0
        try:
            yield
        finally:
            self._feature_frames = self._attention_frames = 0

    def _replace_features(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        frames = self._feature_frames
        if not frames:
            return output
        return output[:frames].repeat(len(output) // frames, 1, 1, 1)
