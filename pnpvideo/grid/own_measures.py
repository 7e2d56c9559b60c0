"""Measures of structure and text by the model itself, so that nothing needs to be downloaded.

Only for comparing results of one model and source, as the model judges its own work: its structure
in the layer that is injected, its text by the objective of guidance.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pnpvideo.models.model import Window
from pnpvideo.models.network import Batch, InjectionLayers, Network, is_transformer
from pnpvideo.models.noise_schedule import Level, NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.schedule import clean_and_noise
from pnpvideo.sampling.windows import in_windows

# Fractions of the sampling steps: late enough for features to show the picture, not its noise.
_STRUCTURE_AT = 0.8
_TEXT_AT = (0.2, 0.4, 0.6, 0.8)


class OwnMeasures:
    """Measures of clean latents (frames, c, h, w), all with the same noise for comparison.

    nothing: the embedding of the empty text. window: for a video model, how its pieces go together.
    """

    def __init__(
        self,
        network: Network,
        layers: InjectionLayers,
        schedule: NoiseSchedule,
        nothing: PromptEmbeddings,
        *,
        batch_size: int,
        window: Window | None = None,
    ) -> None:
        self._network, self._schedule, self._nothing = network, schedule, nothing
        self._batch_size = batch_size if window is None else window.length
        self._window = window
        self._whole = in_windows(network.predict, window)
        self._layers = layers

    @torch.no_grad()
    def structure(self, latents: Tensor, source: Tensor) -> float:
        """Return the mean squared difference of cosine self-similarities, in [0, 4], 0 if equal.

        The structure distance of Tumanyan et al. 2022 (arXiv 2201.00424, equation 4), with features
        of the first injected layer, or of a transformer's middle block, instead of DINO's keys.
        """
        parts = zip(
            torch.split(latents, self._batch_size),
            torch.split(source, self._batch_size),
            strict=True,
        )
        distances = [
            (_self_similarity(self._features(one)) - _self_similarity(self._features(other)))
            .square()
            .mean((1, 2))
            for one, other in parts
        ]
        return float(torch.cat(distances).mean())

    @torch.no_grad()
    def text(self, latents: Tensor, text: PromptEmbeddings) -> float:
        """Return by what fraction the text reduces the noise prediction's error of the empty text.

        At most 1; 0 if the text does not describe the picture, below 0 if it is wrong. With one
        noise sample, the mean of four levels (similar to Li et al. 2023, "Your Diffusion Model is
        Secretly a Zero-Shot Classifier", equation 5).
        """
        gains = []
        for step in self._steps(_TEXT_AT):
            error, without = (self._error(latents, step, words) for words in (text, self._nothing))
            gains.append(1 - error / without)
        return sum(gains) / len(gains)

    def _steps(self, shares: Sequence[float]) -> list[int]:
        return [round(share * (len(self._schedule.timesteps) - 1)) for share in shares]

    def _features(self, latents: Tensor) -> Tensor:
        """Return features (n, positions, channels) of slightly noisy latents for an empty text."""
        (step,) = self._steps((_STRUCTURE_AT,))
        seen: list[Tensor] = []

        def keep(output: Tensor) -> Tensor:
            seen.append(output.float())
            return output

        network, noisy = self._network, self._noisy(latents, step)[0]
        if is_transformer(network):
            with network.middle_tokens.changed(keep):
                self._predict(noisy, step, self._nothing)
            tokens = torch.cat(seen)
            # A clip's as those of its pieces.
            return tokens.reshape(len(latents), -1, tokens.shape[-1])
        with network.feature(self._layers.features[0]).changed(lambda tensor: tensor, keep):
            self._predict(noisy, step, self._nothing)
        return seen[0].flatten(2).transpose(1, 2)

    def _error(self, latents: Tensor, step: int, text: PromptEmbeddings) -> float:
        """Return the mean squared error of the predicted noise, or, of pure noise, of what is
        predicted of the picture. The fraction of two such errors is the same for both.
        """
        level, kind = self._schedule.levels[step], self._schedule.prediction_type
        errors = []
        for part in torch.split(latents, self._batch_size):
            noisy, noise = self._noisy(part, step)
            output = self._predict(noisy, step, text)
            clean, found = clean_and_noise(noisy, output, level, kind)
            # Of pure noise nothing is left to predict but the picture.
            wrong = found - noise if level.signal else clean - part.to(clean)
            errors.append(wrong.square().mean((1, 2, 3)))
        return float(torch.cat(errors).mean())

    def _noisy(self, latents: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return latents at a step's noise level, and the noise, the same for all frames.

        The latents of a clip have noise of their own each.
        """
        level: Level = self._schedule.levels[step]
        generator = torch.Generator().manual_seed(step)
        shape = latents.shape[1:] if self._window is None else latents.shape
        noise = torch.randn(shape, generator=generator).to(self._network.device)
        clean = latents.to(self._network.device, torch.float32)
        return level.signal * clean + level.noise * noise, noise.expand_as(clean)

    def _predict(self, latents: Tensor, step: int, text: PromptEmbeddings) -> Tensor:
        timestep = self._schedule.timesteps[step]
        numbers = tuple(range(len(latents)))
        batch = Batch(latents=latents, timestep=timestep, texts=text, pieces=numbers)
        return self._whole(batch)


def _self_similarity(features: Tensor) -> Tensor:
    """Return the cosines between all positions, (n, positions, positions)."""
    unit = normalize(features, dim=-1, eps=1e-8)
    return unit @ unit.transpose(1, 2)
