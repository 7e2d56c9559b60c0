"""LPIPS (Zhang et al. 2018, arXiv 1801.03924): distance of two pictures in a network's features.

The networks are torchvision's AlexNet and SqueezeNet 1.1, written out here: their weights come from
a safetensors file of the user's, as torchvision's own are pickled. What weighs the features is the
authors' (version 0.1), as torchmetrics holds it.
"""

from pathlib import Path
from typing import Literal

import torch
import torchmetrics.functional.image.lpips as published
from torch import Tensor, nn

Backbone = Literal["alex", "squeeze"]

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the authors' scaling layer, for pictures in [-1, 1]."""
_TAPS = {"alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
"""The layers whose outputs are compared."""


class Fire(nn.Module):
    """SqueezeNet's module (Iandola et al. 2016, arXiv 1602.07360, section 3.2)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def make_features(backbone: Backbone) -> nn.Sequential:
    """torchvision's `features` of a network, with its names of the weights, not yet trained."""
    if backbone == "alex":
        return nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    )


class Lpips(nn.Module):
    """The distance by one network, whose features are still to be loaded."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.features = make_features(backbone)
        self._taps = _TAPS[backbone]
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        weights = Path(published.__file__).with_name("lpips_models") / f"{backbone}.pth"
        linear = torch.load(weights, map_location="cpu", weights_only=True)
        for number in range(len(self._taps)):
            weight = linear[f"lin{number}.model.1.weight"]
            self.register_buffer(f"linear{number}", weight, persistent=False)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Distances (n,) of pictures (n, 3, h, w) in [0, 1]: 0 where alike, rarely above 1."""
        total = torch.zeros(len(pictures), device=pictures.device)
        compared = zip(self._tapped(pictures), self._tapped(others), strict=True)
        for number, (one, other) in enumerate(compared):
            squared = (_unit(one) - _unit(other)) ** 2
            weighed = (squared * self.get_buffer(f"linear{number}")).sum(1)
            total = total + weighed.mean(dim=(1, 2))
        return total

    def _tapped(self, pictures: Tensor) -> list[Tensor]:
        x = (2 * pictures - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._taps:
                found.append(x)
        return found


def _unit(features: Tensor) -> Tensor:
    """Each place's features at length 1."""
    return features / torch.sqrt(1e-8 + (features**2).sum(1, keepdim=True))
