"""What the embedded model's training has beside the denoising loss: layout heads and injection.

REPA (Yu et al. 2024) aligns a diffusion model's inner features with a pretrained encoder's, and
training takes a fraction of the images. Here the world's own truth takes the encoder's place: small
heads read the layout from the decoder's coarser features, the same for all styles, and the looks
(colours, materials, ground, light, style) near its end. The heads are not exported.

Pictures come in pairs of one layout, and in a part of them the second is denoised with the first
one's features, queries and keys, as sampling injects them (Tumanyan et al. 2023, section 4). That
features say what is where, and not in which style, large models have from their data; this one has
it from being trained so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.embedded_model import Denoiser
from tools.layout import Scene, lay_out
from tools.scenes import SHAPES, STYLES, VALUES, visible_attributes

LAYOUT_FROM = ("up_blocks.1", "up_blocks.2")
LOOKS_FROM = "up_blocks.3.attentions.0"
FEATURES = ("up_blocks.1.resnets.1", "up_blocks.2.resnets.1", "up_blocks.3.resnets.0")
ATTENTIONS = (
    "up_blocks.1.attentions.1",
    "up_blocks.2.attentions.0",
    "up_blocks.2.attentions.1",
    "up_blocks.3.attentions.0",
    "up_blocks.3.attentions.1",
)
"""Where training injects; the embedded model's `pnp.json` names the same."""
GEOMETRY = 4  # channels: cover, height of the body's bulge, slope along x and y
LAYOUT = {"shape": (*SHAPES, "ground")}
LOOKS = {name: VALUES[name] for name in ("colour", "material", "ground", "light")}
LOOKS["style"] = STYLES
UNSEEN = -1  # class of what a picture does not show


def draw_truth(
    pictures: Sequence[tuple[Scene, str]], size: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """What pictures, of scenes in styles, show at each place.

    Returns geometry (B, 4, size, size) and, by name, classes (B, size, size) in the order of
    `LAYOUT` and `LOOKS`, `UNSEEN` where the picture does not tell: pens draw no colour, material,
    ground or light, cartoons no material, and an object has no ground.
    """
    layout = lay_out([scene for scene, _ in pictures], size, 0.0, "cpu")
    geometry = torch.zeros(len(pictures), GEOMETRY, size, size)
    classes = {name: torch.full((len(pictures), size, size), UNSEEN) for name in (*LAYOUT, *LOOKS)}
    classes["shape"][:] = LAYOUT["shape"].index("ground")
    for row, (scene, style) in enumerate(pictures):
        classes["style"][row] = STYLES.index(style)
        for name in {"ground", "light"} & set(visible_attributes(style)):
            classes[name][row] = VALUES[name].index(getattr(scene, name))
    inside = (-layout.distance / (0.5 * layout.sizes[:, None, None])).clamp(0, 1)
    slopes = torch.stack(torch.gradient(inside, dim=(2, 1)), 1) * size / 8
    maps = torch.cat((torch.ones_like(inside)[:, None], inside[:, None], slopes), 1)
    # From back to front: what lies in front replaces what it covers.
    for index, (thing, row) in enumerate(zip(layout.objects, layout.owner.tolist(), strict=True)):
        cover = layout.distance[index] < 0
        geometry[row] = torch.where(cover, maps[index], geometry[row])
        classes["shape"][row][cover] = LAYOUT["shape"].index(thing.shape)
        classes["ground"][row][cover] = UNSEEN
        for name in {"colour", "material"} & set(visible_attributes(pictures[row][1])):
            classes[name][row][cover] = VALUES[name].index(getattr(thing, name))
    return geometry, classes


class SupervisedDenoiser(nn.Module):
    """A denoiser in training, with heads of one linear layer on its decoder's features."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser
        self._features: dict[str, Tensor] = {}
        self._injected: dict[str, Tensor] = {}
        find = denoiser.unet.get_submodule
        for name in (*LAYOUT_FROM, LOOKS_FROM):
            find(name).register_forward_hook(partial(self._keep, name))
        for name in FEATURES:
            find(f"{name}.conv2").register_forward_hook(partial(self._inject, "features"))
        for name in ATTENTIONS:
            for projection in ("to_q", "to_k"):
                find(f"{name}.transformer_blocks.0.attn1.{projection}").register_forward_hook(
                    partial(self._inject, "attentions")
                )
        channels = denoiser.unet.config["block_out_channels"]
        layout, looks = (sum(map(len, names.values())) for names in (LAYOUT, LOOKS))
        self.layout_heads = nn.ModuleList(
            nn.Conv2d(width, GEOMETRY + layout, 1) for width in (channels[2], channels[1])
        )
        self.looks_head = nn.Conv2d(channels[0], looks, 1)

    def _keep(self, name: str, _module: nn.Module, _inputs: object, output: Any) -> None:
        # A transformer returns a tuple.
        self._features[name] = output[0] if isinstance(output, tuple) else output

    def _inject(
        self, kind: str, _module: nn.Module, _inputs: object, output: Tensor
    ) -> Tensor | None:
        if not self._injected:  # not in training
            return None
        source, target = output[::2], output[1::2]
        chosen = self._injected[kind].view(-1, *[1] * (output.ndim - 1))
        return torch.stack((source, torch.where(chosen, source, target)), 1).flatten(0, 1)

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        injected: Tensor,
        geometry: Tensor,
        classes: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Predict v, and measure what the heads read against the truth of `draw_truth`.

        Rows are pairs, source and target in turn; `injected` (pairs, 2) tells whether the target
        gets the source's features, and whether its queries and keys.
        """
        self._injected = {"features": injected[:, 0], "attentions": injected[:, 1]}
        predicted = self.denoiser(noisy, timesteps, tokens)
        self._injected = {}
        loss = geometry.new_zeros(())
        for name, head in zip(LAYOUT_FROM, self.layout_heads, strict=True):
            read = head(self._features[name]).float()
            read = functional.interpolate(read, geometry.shape[-2:], mode="bilinear")
            loss = loss + functional.mse_loss(read[:, :GEOMETRY], geometry)
            loss = loss + _class_loss(read[:, GEOMETRY:], LAYOUT, classes)
        loss = loss + _class_loss(self.looks_head(self._features[LOOKS_FROM]), LOOKS, classes)
        self._features.clear()
        return predicted, loss


def _class_loss(
    read: Tensor, names: dict[str, tuple[str, ...]], truth: dict[str, Tensor]
) -> Tensor:
    """Sum of the mean cross entropies of channels (B, C, H, W), split by the classes of `names`.

    The mean is over a picture's places, then over pictures, so that small objects count in full.
    """
    parts = torch.split(read.float(), [len(values) for values in names.values()], 1)
    loss = read.new_zeros(())
    for name, part in zip(names, parts, strict=True):
        seen = (truth[name] != UNSEEN).sum((1, 2)).clamp(min=1)
        each = functional.cross_entropy(part, truth[name], ignore_index=UNSEEN, reduction="none")
        loss = loss + (each.sum((1, 2)) / seen).mean()
    return loss
