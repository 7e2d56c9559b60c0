"""The injector: puts the source's features, queries and keys into the target's passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.sampling.attend import FrameAttention, Running, Sharing, is_plain_self_attention


@dataclass(frozen=True, kw_only=True)
class InjectionLayers:
    """Where to inject and where frames share, as module names of the UNet.

    features: residual blocks, such as "up_blocks.1.resnets.1".
    attentions: self-attention layers, or modules that hold some, such as "up_blocks.2".
    shared: the same, for sharing between frames; by default all, as in TokenFlow's code.
    """

    features: tuple[str, ...]
    attentions: tuple[str, ...]
    shared: tuple[str, ...] = ("down_blocks", "mid_block", "up_blocks")


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


class _FeaturesKeptError(Exception):
    """Ends a pass of the source at the last feature that it is needed for."""


class FeatureInjector:
    """Injects into one UNet, between entering and leaving `installed()`.

    Batches are branch-major: first the source's frames, then as many for each target branch.
    """

    def __init__(self, unet: Any, layers: InjectionLayers | None = None) -> None:
        layers = layers or default_layers(unet)
        modules = dict(unet.named_modules())
        for name in (*layers.features, *layers.attentions, *layers.shared):
            if name not in modules:
                raise InputError(f"the UNet has no module {name!r} to inject into")
        self.blocks: list[Any] = []
        for name in layers.features:
            if not hasattr(modules[name], "conv2"):
                raise InputError(f"{name!r} is no residual block, so it has no features to inject")
            self.blocks.append(modules[name])
        self.attentions: list[Any] = []
        for place in layers.attentions:
            found = _self_attentions(modules[place])
            if not found:
                raise InputError(f"{place!r} holds no self-attention to inject into")
            self.attentions += [module for module in found if module not in self.attentions]
        self.shared: list[Any] = []
        for place in layers.shared:
            found = _self_attentions(modules[place])
            self.shared += [module for module in found if module not in self.shared]
        levels = [_self_attentions(block) for block in (unet.mid_block, *unet.up_blocks)]
        self.observed = [layers[0] for layers in levels if layers]
        self.before_text = _layers_before_text(unet)
        self._installed = False
        self._shares = False
        self._running = Running()
        self._batch = 0
        self._kept: dict[Any, Tensor] = {}

    @contextmanager
    def installed(self, *, sharing: bool = False) -> Iterator["FeatureInjector"]:
        """Install hooks and processors; on leaving, the UNet is exactly as it was.

        sharing: frames are to share attention, too. Without it no other layers are touched.
        """
        if self._installed:
            raise RuntimeError("this injector is installed already")
        self._installed, self._shares = True, sharing
        layers = list(self.attentions)
        if sharing:
            layers += [layer for layer in self.shared if layer not in layers]
        before = [layer.get_processor() for layer in layers]
        hooks = []
        try:
            for layer in layers:
                injects, shares = layer in self.attentions, sharing and layer in self.shared
                layer.set_processor(
                    FrameAttention(lambda: self._running, injects=injects, shares=shares)
                )
            for block in self.blocks:
                hooks.append(block.norm1.register_forward_pre_hook(self._drop_targets))
                if block.time_emb_proj is not None:
                    hooks.append(block.time_emb_proj.register_forward_hook(self._drop_more))
                hooks.append(block.conv2.register_forward_hook(self._replace_features))
            for layer in self.before_text:
                hooks.append(layer.register_forward_pre_hook(self._drop_alike))
                hooks.append(layer.register_forward_hook(self._repeat_alike))
            yield self
        finally:
            for hook in hooks:
                hook.remove()
            for layer, processor in zip(layers, before, strict=True):
                layer.set_processor(processor)
            self._installed = self._shares = False

    @contextmanager
    def injecting(
        self,
        frames: int,
        *,
        features: bool,
        attention: bool,
        source: bool = True,
        alike: int = 1,
        sharing: Sharing | None = None,
    ) -> Iterator[None]:
        """Inject and share in the passes within, with this many frames in each branch.

        source: the first branch is the source's. Without it, the features are those of the last
        pass in `keeping`, and no attention can be injected. alike: so many branches after one
        another, but for the source's, have the same latents.
        """
        if sharing is not None and not self._shares:
            raise RuntimeError("this injector is not installed for sharing")
        self._running = Running(
            frames=frames,
            source=source,
            alike=alike,
            features=features and (source or bool(self._kept)),
            attention=attention and source,
            sharing=sharing,
        )
        try:
            yield
        finally:
            self._running = Running()
            self._kept = {}

    def takes_attention(self, sharing: Sharing | None) -> bool:
        """Whether a pass has layers to inject queries and keys into.

        Not where all of them take keyframes' outputs instead.
        """
        if sharing is None or not sharing.takes_outputs:
            return True
        return any(layer not in self.shared for layer in self.attentions)

    @contextmanager
    def keeping(self, frames: int) -> Iterator[None]:
        """Keep the features of the source for one pass of its targets alone.

        The pass within holds only the source, and ends right after the last feature.
        """
        self._running = Running(frames=frames, source=True, keep=True)
        try:
            yield
        except _FeaturesKeptError:
            pass
        finally:
            self._running = Running()

    @contextmanager
    def recording(self) -> Iterator[dict[int, Tensor]]:
        """Record what goes into self-attention in the pass within, by the number of tokens.

        The values are (batch, tokens, channels), of the first layer of each resolution in the
        decoder, or in the middle where the decoder has none.
        """
        tokens: dict[int, Tensor] = {}

        def record(module: Any, inputs: tuple[Tensor, ...]) -> None:
            tokens[inputs[0].shape[1]] = inputs[0]

        hooks = [layer.register_forward_pre_hook(record) for layer in self.observed]
        try:
            yield tokens
        finally:
            for hook in hooks:
                hook.remove()

    # What a block adds to its input is the source's for all branches: so in the block, from its
    # first norm to its second convolution, there are only the source's frames.

    def _split_source(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The source's frames, if they are there, and all the others."""
        count = self._running.frames if self._running.source else 0
        return tensor[:count], tensor[count:]

    def _drop_targets(self, module: Any, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self._running.features:
            return None
        self._batch = len(inputs[0])
        return (self._split_source(inputs[0])[0],)

    def _drop_more(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        return self._split_source(output)[0] if self._running.features else output

    def _replace_features(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        if self._running.keep:
            self._kept[module] = output
            if len(self._kept) == len(self.blocks):
                raise _FeaturesKeptError
        if not self._running.features:
            return output
        source = output if self._running.source else self._kept[module]
        return source.repeat(self._batch // len(source), 1, 1, 1)

    # Up to the first layer that sees a text, branches of the same latents are the same.

    def _drop_alike(self, module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        now = self._running
        if now.alike == 1:
            return None

        def first_of_each(tensor: Tensor) -> Tensor:
            own, rest = self._split_source(tensor)
            first = rest.view(-1, now.alike, now.frames, *rest.shape[1:])[:, 0]
            return torch.cat([own, first.flatten(0, 1)])

        return tuple(first_of_each(tensor) for tensor in inputs)

    def _repeat_alike(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        now = self._running
        if now.alike == 1:
            return output
        own, rest = self._split_source(output)
        rest = rest.view(-1, now.frames, *rest.shape[1:]).repeat_interleave(now.alike, dim=0)
        return torch.cat([own, rest.flatten(0, 1)])


def _self_attentions(place: torch.nn.Module) -> list[Any]:
    """The self-attention layers in a module, or the module itself if it is one."""
    return [
        module
        for module in place.modules()
        if hasattr(module, "set_processor") and is_plain_self_attention(module)
    ]


def _layers_before_text(unet: Any) -> list[Any]:
    """Residual blocks and the self-attention that come before the first layer that sees a text."""
    if unet.config.addition_embed_type is not None:
        return []  # A text is in the timestep's embedding, so no layer is without one.
    block = unet.down_blocks[0]
    if not getattr(block, "has_cross_attention", False):
        return list(block.resnets)
    attention = block.attentions[0].transformer_blocks[0].attn1
    return [block.resnets[0], *_self_attentions(attention)]
