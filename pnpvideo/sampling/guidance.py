"""Guidance: the texts of each step, and one prediction from their predictions."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.method import NegativeSchedule, PnPOptions
from pnpvideo.sampling.schedule import first_steps

Rescaled = Callable[[Tensor, Tensor], Tensor]
"""Returns guided predictions scaled as a family of models does (see `Model.rescaled`)."""


def _as_they_are(guided: Tensor, prediction: Tensor) -> Tensor:
    return guided


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The embeddings of one run.

    source: one, of the inversion prompt. targets, negatives: one for each prompt. unconditional:
    one, of the empty text, for a negative-prompt schedule.
    """

    source: PromptEmbeddings
    targets: PromptEmbeddings
    negatives: PromptEmbeddings
    unconditional: PromptEmbeddings

    def branches(self, *, guided: bool, scheduled: bool) -> PromptEmbeddings:
        """Return the texts of a pass, by branch: the source's, then those of each prompt."""
        parts = [self.source]
        for i in range(len(self.targets)):
            one = slice(i, i + 1)
            if guided and scheduled:
                parts.append(self.unconditional)
            if guided:
                parts.append(self.negatives[one])
            parts.append(self.targets[one])
        return concatenate(parts)


def scale_at(
    timestep: float, scale: float, low_noise: float | None, boundary: float | None
) -> float:
    """Return the guidance scale at a timestep.

    low_noise: the scale below the boundary, where another network predicts; None: the same. As the
    `guidance_scale_2` of diffusers' WanPipeline.
    """
    if low_noise is None or boundary is None or timestep >= boundary:
        return scale
    return low_noise


class Guidance:
    """Classifier-free guidance (Ho and Salimans 2022) with an interval and a negative schedule.

    eps = e + s (eps_cond - e), where e is the prediction under the negative prompt or, with a
    schedule, a_i eps_uncond + (1 - a_i) eps_negative (Tumanyan et al. 2022, section 4.3).
    scale: s, which may change between steps. low_noise_scale: the same below the boundary (see the
    function `scale_at`).
    A network that takes the guidance scale as an input predicts with guidance by itself. Then there
    are no negative prompts, and s stays as it is, as in diffusers' pipelines.
    """

    def __init__(
        self,
        texts: Texts,
        options: PnPOptions,
        rescaled: Rescaled = _as_they_are,
        *,
        together: bool = False,
        boundary: float | None = None,
    ) -> None:
        """together: whether the pieces are those of a clip, and rescaled together.

        boundary: see `Model.boundary`.
        """
        self.options = options
        self._together = together
        self._rescaled = rescaled
        self.scale = options.guidance_scale
        self.low_noise_scale = options.guidance_scale_2
        self._boundary = boundary
        self._schedule = options.negative_schedule
        ends = (options.guidance_start, options.guidance_end)
        self._interval = range(*(first_steps(share, options.steps) for share in ends))
        self.use(texts)

    def use(self, texts: Texts) -> None:
        """Use other texts from now on. Without negative ones, guidance is off."""
        self.run_texts = texts
        if self.is_built_in:
            scale = self.options.guidance_scale
            guided = replace(texts, targets=texts.targets.with_guidance(scale))
            self._unguided, self._guided = (
                one.branches(guided=False, scheduled=False) for one in (texts, guided)
            )
            return
        if not len(texts.negatives):
            self._interval = range(0)
        scheduled = self._schedule is not None
        # Computed once, so that a network can cache what it computes of them.
        self._unguided = texts.branches(guided=False, scheduled=scheduled)
        if self._interval:
            self._guided = texts.branches(guided=True, scheduled=scheduled)

    @property
    def is_built_in(self) -> bool:
        """Whether the network takes the guidance scale as an input."""
        return self.run_texts.targets.guidance is not None

    @property
    def reads_negatives(self) -> bool:
        """Whether guided steps run the negative prompts."""
        scales = self.scale, self.low_noise_scale
        return not self.is_built_in and any(scale not in (1, None) for scale in scales)

    def scale_at(self, timestep: float) -> float:
        """Return s at the timestep that the network is given."""
        return scale_at(timestep, self.scale, self.low_noise_scale, self._boundary)

    def acts(self, step: int) -> bool:
        """Return whether a step is one of those that guidance is for."""
        return step in self._interval

    def guides(self, step: int) -> bool:
        """Return whether a step is guided by negative prompts."""
        return self.reads_negatives and self.acts(step)

    def with_scale(self, texts: PromptEmbeddings, scale: float) -> PromptEmbeddings:
        """Return texts with a guidance scale for the network, if that takes one as an input."""
        return texts.with_guidance(scale) if self.is_built_in else texts

    def texts(self, step: int) -> PromptEmbeddings:
        """Return the texts of a step, by branch: the source's, then those of each prompt."""
        guided = step in self._interval if self.is_built_in else self.guides(step)
        return self._guided if guided else self._unguided

    def branches(self, step: int) -> int:
        """Return how many branches each prompt has at a step."""
        if not self.guides(step):
            return 1
        return 2 if self._schedule is None else 3

    def guided(self, base: Tensor, prediction: Tensor, scale: float) -> Tensor:
        """Return base + scale (prediction - base), as the family of models scales it."""
        return self._rescaled(base + scale * (prediction - base), prediction)

    def combine(self, step: int, timestep: float, outputs: Tensor) -> Tensor:
        """Return one prediction (prompts, pieces, ...) from (prompts, branches, pieces, ...).

        timestep: what the network was given, at the step or at its middle.
        """
        prediction = outputs[:, -1]
        if not self.guides(step):
            return prediction
        base, options = outputs[:, -2], self.options
        if self._schedule is not None:
            weight = negative_weight(step, options.steps, options.negative_alpha, self._schedule)
            base = weight * outputs[:, 0] + (1 - weight) * base
        guided = self.guided(base, prediction, self.scale_at(timestep))
        share = options.guidance_rescale
        return rescale(guided, prediction, share, together=self._together)


def rescale(guided: Tensor, prediction: Tensor, share: float, *, together: bool = False) -> Tensor:
    """Rescale guided predictions to the standard deviation of the conditional ones.

    guided, prediction: (prompts, pieces, ...); each piece has its own deviation, or all have one
    together. share 0 leaves them, bit for bit; 1 does it fully (Lin et al. 2024, "Common Diffusion
    Noise Schedules and Sample Steps are Flawed", section 3.4).
    """
    if share == 0:
        return guided
    piece_axes = tuple(range(1 if together else 2, guided.ndim))
    wanted, now = (x.std(dim=piece_axes, keepdim=True) for x in (prediction, guided))
    return share * guided * (wanted / now) + (1 - share) * guided


def negative_weight(step: int, steps: int, alpha: float, schedule: NegativeSchedule) -> float:
    """Return a_i, the weight of the empty prompt (Tumanyan et al. 2022, section 4.3 and code)."""
    progress = step / (steps - 1) if steps > 1 else 0.0
    factors = {"constant": 1.0, "linear": 1 - progress, "exp": math.exp(-6 * progress)}
    return alpha * factors[schedule]
