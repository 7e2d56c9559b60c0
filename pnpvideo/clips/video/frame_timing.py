"""Timing from time stamps: the exact frame rate if there is one, otherwise each frame's time."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

from pnpvideo.clips.clip import Timing

_LONGEST = 24 * 60 * 60
"""Seconds for which a frame may be shown; damaged files claim years."""


def find_timing(
    times: Sequence[Fraction],
    end: Fraction,
    *,
    tick: Fraction,
    claims: Sequence[float] = (),
    stride: int,
) -> Timing:
    """Return the timing of every `stride`-th frame.

    times, end: seconds at which each frame appears, and at which the last one ends.
    tick: the step, in seconds, to which the file rounds its times.
    claims: frame rates that the file claims, with two decimals; they decide if rounding leaves
        several possible rates.
    """
    steps = [b - a for a, b in zip(times, [*times[1:], end], strict=True)]
    # A file without usable times: use the rate that it claims.
    if not all(0 < step <= _LONGEST for step in steps):
        claimed_rates = (_plain_rate(claim) for claim in claims)
        return Timing(
            frame_rate=next((rate for rate in claimed_rates if rate), Fraction(25)) / stride
        )
    shifts = [time - times[0] for time in times]
    rate = _constant_rate(shifts, end - times[0], tick, claims)
    if rate is not None:
        return Timing(frame_rate=rate / stride)
    chosen = tuple(shifts[::stride])
    last = (len(chosen) - 1) * stride + stride
    length = (shifts[last] if last < len(shifts) else end - times[0]) - chosen[0]
    return Timing(frame_rate=len(chosen) / length, times=chosen)


def _constant_rate(
    shifts: Sequence[Fraction], length: Fraction, tick: Fraction, claims: Sequence[float]
) -> Fraction | None:
    """Return the rate r with shift i = i / r up to one tick: a claimed one, or the simplest."""
    count = len(shifts)
    low, high = Fraction(0), 2 * length  # Bounds of the frame duration in seconds.
    for i in range(1, count):
        low = max(low, (shifts[i] - tick) / i)
        high = min(high, (shifts[i] + tick) / i)
    if count == 1:
        low, high = length - tick, length + tick
    low = max(low, tick / 2)
    if low > high:
        return None
    # The last frame's duration is often wrong; keep each frame's time only if it is clearly
    # longer or shorter.
    if abs(length - count * (low + high) / 2) > (low + high) / 4:
        return None
    exact = shifts[-1] / (count - 1) if count > 1 else length
    even = all(shifts[i] == i * exact for i in range(count))
    candidates = [rate for claim in claims if (rate := _plain_rate(claim))]
    # Coarser times, such as milliseconds, look even because they are rounded.
    if even and tick < Fraction(1, 5000):
        candidates.append(1 / exact)
    for rate in candidates:
        if low <= 1 / rate <= high:
            return rate
    cent = Fraction(1, 200)  # Half of a claim's last decimal.
    for claim in (round(Fraction(claim), 2) for claim in claims):
        slowest, fastest = max(1 / high, claim - cent), min(1 / low, claim + cent)
        if slowest <= fastest:
            return _simplest(slowest, fastest)
    return _simplest(1 / high, 1 / low)


def _plain_rate(claim: float) -> Fraction | None:
    """Return the exact rate for one with two decimals: 30000/1001 for 29.97, 25 for 25."""
    if claim <= 0:
        return None
    if abs(claim - round(claim)) < 1e-6:
        return Fraction(round(claim))
    near = Fraction(ceil(claim) * 1000, 1001)
    return near if abs(float(near) - claim) < 0.006 else None


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction with the smallest denominator in [low, high], low > 0 (Stern-Brocot)."""
    whole = floor(low)
    if whole == low:
        return Fraction(whole)
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))
