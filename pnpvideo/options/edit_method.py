"""The methods of editing, and what `strength` sets in each of them."""

import math
from typing import Literal

MethodName = Literal["inject", "uniedit", "flowedit", "flowalign", "steerflow"]
SolverName = Literal["ddim", "lookahead", "midpoint", "fireflow"]

SAMPLING_SOLVERS = ("midpoint", "fireflow")
"""The solvers that also take the steps of sampling, in two halves."""

INJECT: MethodName = "inject"
"""The method of the paper, and the default."""

OWN_STRENGTH: dict[MethodName, float] = {
    "uniedit": 0.6,
    "flowedit": 0.7,
    "flowalign": 0.5,
    "steerflow": 0.5,
}
"""By method: the strength that comes nearest to the values in its paper. Inject has its thresholds
instead."""

OF_CLEAN = ("flowedit", "flowalign")
"""The methods that change the clean latents from step to step, and need no inversion."""

UNGUIDED = ("uniedit", "flowalign")
"""The methods that set the prompt against the source's text in place of the negative prompt, by
the guidance scale."""


def thresholds(strength: float) -> tuple[float, float]:
    """Return tau_f and tau_a: (1, 1) at strength 0, the paper's 0.8 and 0.5 at 0.5, (0, 0) at 1."""
    return min(1 - 0.4 * strength, 1.6 * (1 - strength)), 1 - strength


def consistency(strength: float) -> float:
    """Return FlowAlign's zeta: 0.01, the paper's, at strength 0.5, about 0.001 at 0.75, 0 at 1.

    Its largest value is 1, with which the last step returns the source.
    strength: above 0; at 0 no step is taken.
    """
    return min(1.0, 0.01 * ((1 - strength) / strength) ** 2)


def steering(strength: float) -> float:
    """Return SteerFlow's gamma: 5 at strength 0.5 (the paper has 4.5 and 5.5), infinite at 1.

    With 0 the result would be the source.
    """
    return math.inf if strength == 1 else 5 * strength / (1 - strength)
