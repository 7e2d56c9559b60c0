"""The embedded model's training objectives besides the denoising loss: heads and injection.

REPA (Yu et al. 2024) aligns a diffusion model's inner features with a pretrained encoder's, and
training then needs a fraction of the images. Here the world's ground truth replaces the encoder:
small heads predict from the decoder's coarser features which thing is where, the same for all
styles, and near its end the attributes (appearance, ground, light, style). The heads are not
exported. Cross-attention to a thing's name is trained to lie on the thing (TokenCompose, Wang et
al. 2024, equation 3), so that names are learnt sooner, and a mask can be read from it.

Pictures come in pairs of one layout, and in a part of them the second is denoised with the
features, queries and keys of the first, as sampling injects them (Tumanyan et al. 2023, section 4).
Large models learn from their data that features describe the layout and not the style; this model
learns it from this training.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.train.examples import UNSEEN
from tools.train.model import Denoiser
from tools.train.scenes import APPEARANCES, GROUNDS, LIGHTS, STYLES

LAYOUT_FROM = ("up_blocks.0", "up_blocks.1")
LOOKS_FROM = "up_blocks.2"
FEATURES = ("up_blocks.1.resnets.1", "up_blocks.2.resnets.0")
ATTENTIONS = (
    "up_blocks.1.attentions.1",
    "up_blocks.2.attentions.0",
    "up_blocks.2.attentions.1",
    "up_blocks.2.attentions.2",
)
"""The layers of injection in training, the same as in the embedded model's `pnp.json`."""
GAZE = 2.0  # weight of cross-attention's loss, the mean of all layers, relative to a head's
LOOKS = {
    "appearance": len(APPEARANCES),
    "ground": len(GROUNDS),
    "light": len(LIGHTS),
    "style": len(STYLES),
}


class SupervisedDenoiser(nn.Module):
    """A denoiser in training, with heads of one linear layer on its decoder's features.

    things: the number of kinds of things in the world.
    """

    def __init__(self, denoiser: Denoiser, things: int):
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
        self._crossings = [
            module for name, module in denoiser.unet.named_modules() if name.endswith(".attn2")
        ]
        self._projected: dict[tuple[nn.Module, str], Tensor] = {}
        for crossing in self._crossings:
            for kind in ("to_q", "to_k"):
                crossing.get_submodule(kind).register_forward_hook(
                    partial(self._keep_projected, crossing, kind)
                )
        channels = denoiser.unet.config["block_out_channels"]
        self.layout_heads = nn.ModuleList(
            nn.Conv2d(width, 1 + things, 1) for width in (channels[3], channels[2])
        )
        self.looks_head = nn.Conv2d(channels[1], sum(LOOKS.values()), 1)

    def _keep(self, name: str, _module: nn.Module, _inputs: object, output: Any) -> None:
        # A transformer returns a tuple.
        self._features[name] = output[0] if isinstance(output, tuple) else output

    def _keep_projected(
        self, crossing: nn.Module, kind: str, _module: nn.Module, _inputs: object, output: Tensor
    ) -> None:
        self._projected[crossing, kind] = output

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
        truth: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Predict v, and return the heads' loss against the truth of `Pairs`.

        Rows are pairs, source and target in turn; `injected` (pairs, 2) says whether the target
        gets the source's features, and whether its queries and keys.
        """
        self._injected = {"features": injected[:, 0], "attentions": injected[:, 1]}
        predicted = self.denoiser(noisy, timesteps, tokens)
        self._injected = {}
        loss = noisy.new_zeros(())
        for name, head in zip(LAYOUT_FROM, self.layout_heads, strict=True):
            read = head(self._features[name]).float()
            size = read.shape[-2:]
            cover = functional.adaptive_avg_pool2d(truth["cover"].float(), size)
            loss = loss + functional.binary_cross_entropy_with_logits(read[:, 0], cover)
            things = functional.interpolate(truth["thing"][:, None].float(), size)[:, 0].long()
            loss = loss + 0.5 * _class_loss(read[:, 1:], things)
        read = self.looks_head(self._features[LOOKS_FROM]).float()
        for (name, _), part in zip(LOOKS.items(), read.split(list(LOOKS.values()), 1), strict=True):
            classes = truth[name]
            if classes.ndim == 1:
                classes = classes[:, None, None].expand(-1, *part.shape[-2:])
            loss = loss + _class_loss(part, classes)
        for crossing in self._crossings:
            queries, keys = (self._projected[crossing, kind].float() for kind in ("to_q", "to_k"))
            heads = int(crossing.heads)
            gaze = gaze_loss(queries, keys, heads, truth["words"], truth["masks"])
            loss = loss + GAZE / len(self._crossings) * gaze
        self._features.clear()
        self._projected.clear()
        return predicted, loss


def gaze_loss(queries: Tensor, keys: Tensor, heads: int, words: Tensor, masks: Tensor) -> Tensor:
    """Return how far attention to words (B, N, L) lies outside their masks (B, N, h, w).

    It is the mean of -log of the share of attention inside, over all things named and visible.
    queries (B, places, heads * C) and keys (B, L, heads * C) of one layer, places of a square grid.
    """
    width = queries.shape[2] // heads
    queries, keys = (
        rows.view(*rows.shape[:2], heads, width).transpose(1, 2) for rows in (queries, keys)
    )
    logits = queries @ keys.transpose(2, 3) / width**0.5
    attended = logits.softmax(-1).mean(1) @ words.float().transpose(1, 2)  # (B, places, N)
    side = round(attended.shape[1] ** 0.5)
    inside = functional.adaptive_avg_pool2d(masks, side).flatten(2)
    shares = (attended.transpose(1, 2) * inside).sum(2) / attended.sum(1).clamp(min=1e-6)
    named = words.any(2) & (masks.flatten(2).amax(2) > 0.5)
    strayed: Tensor = -(shares.clamp(min=1e-3).log() * named).sum() / named.sum().clamp(min=1)
    return strayed


def _class_loss(read: Tensor, classes: Tensor) -> Tensor:
    """Return the mean cross entropy of (B, C, H, W) over a picture's positions, then over pictures.

    So small objects count in full.
    """
    seen = (classes != UNSEEN).sum((1, 2)).clamp(min=1)
    each = functional.cross_entropy(read, classes, ignore_index=UNSEEN, reduction="none")
    return (each.sum((1, 2)) / seen).mean()
