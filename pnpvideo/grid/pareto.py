"""Which of several choices no other one beats."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Whether a choice is on the front: no other has as little cost and as much gain, and is better
    in one of them. Choices alike in both are on it together.
    """
    points = list(zip(costs, gains, strict=True))
    return [
        not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
        for cost, gain in points
    ]
