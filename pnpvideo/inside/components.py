"""Leading principal components of a network's tokens, one basis for all of them, as colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnpvideo.clips.clip import Frames

Projections = NDArray[np.float32]
"""Tokens along the components: (n, height, width, 3)."""

_COLOURS = 3
# What lies outside of these shares of all values has the colours of their ends: a few outliers
# would take the contrast from all else.
_RANGE = (0.01, 0.99)


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Principal components: the mean (channels) and up to three orthonormal directions
    (components, channels), the strongest first, each with its largest part positive.
    """

    mean: Tensor
    directions: Tensor

    def project(self, tokens: Tensor) -> Projections:
        """Project tokens (n, height, width, channels) onto the components; 0 for missing ones."""
        along = (tokens.cpu().double() - self.mean) @ self.directions.T
        found = np.zeros((*tokens.shape[:-1], _COLOURS), np.float32)
        found[..., : along.shape[-1]] = along.numpy()
        return found


class Tokens:
    """A sum over tokens from which their basis is computed; only one batch is in memory at a time.

    The basis is that of PCA, from the eigenvectors of the covariance, in float64.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = torch.zeros(())
        self._products = torch.zeros(())

    def add(self, tokens: Tensor) -> None:
        """Add tokens (..., channels), with the same number of channels at every call."""
        rows = tokens.flatten(0, -2).cpu().double()
        self._count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._products = self._products + rows.T @ rows

    def basis(self) -> Basis:
        mean = self._sum / self._count
        covariance = self._products / self._count - torch.outer(mean, mean)
        directions = torch.linalg.eigh(covariance).eigenvectors.T.flip(0)[:_COLOURS]
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        return Basis(mean=mean, directions=directions * largest.sign())


def coloured(projections: Sequence[Projections]) -> list[Frames]:
    """Return pictures with three components as red, green, blue, in one range for all pictures."""
    values = np.concatenate([one.reshape(-1, _COLOURS) for one in projections])
    low, high = np.quantile(values, _RANGE, axis=0)
    scale = 255 / np.maximum(high - low, 1e-12)
    return [np.rint(((one - low) * scale).clip(0, 255)).astype(np.uint8) for one in projections]
