"""LPIPS (Zhang et al. 2018, arXiv 1801.03924): distance of two pictures in a network's features.

The networks are torchvision's AlexNet and SqueezeNet 1.1, defined here: their weights come from a
safetensors file that the user provides, as torchvision's files are pickled. The weights of the
features are the authors' (version 0.1), as distributed with torchmetrics.
"""

from pathlib import Path
from typing import Literal

import torch
import torchmetrics.functional.image.lpips as published
from torch import Tensor, nn

Backbone = Literal["alex", "squeeze"]

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""The constants of the authors' scaling layer, for pictures in [-1, 1]."""
_COMPARED_LAYERS = {"alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
"""The layers whose outputs are compared."""


class Fire(nn.Module):
    """SqueezeNet's Fire module (Iandola et al. 2016, arXiv 1602.07360, section 3.2)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def make_features(backbone: Backbone) -> nn.Sequential:
    """Return torchvision's `features` of a network, untrained, with torchvision's weight names."""
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
    """The distance by one network; the weights of its features must be loaded afterwards."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.features = make_features(backbone)
        self._compared_layers = _COMPARED_LAYERS[backbone]
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        weights = Path(published.__file__).with_name("lpips_models") / f"{backbone}.pth"
        linear = torch.load(weights, map_location="cpu", weights_only=True)
        for number in range(len(self._compared_layers)):
            weight = linear[f"lin{number}.model.1.weight"]
            self.register_buffer(f"linear{number}", weight, persistent=False)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Return distances (n,) of pictures (n, 3, h, w) in [0, 1]: 0 if equal, rarely above 1."""
        total = torch.zeros(len(pictures), device=pictures.device)
        compared = zip(self._layer_outputs(pictures), self._layer_outputs(others), strict=True)
        for number, (features, other_features) in enumerate(compared):
            squared = (_unit(features) - _unit(other_features)) ** 2
            weighted = (squared * self.get_buffer(f"linear{number}")).sum(1)
            total = total + weighted.mean(dim=(1, 2))
        return total

    def _layer_outputs(self, pictures: Tensor) -> list[Tensor]:
        x = (2 * pictures - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        outputs = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._compared_layers:
                outputs.append(x)
        return outputs


def _unit(features: Tensor) -> Tensor:
    """Scale the features of each position to length 1."""
    return features / torch.sqrt(1e-8 + (features**2).sum(1, keepdim=True))
