"""The arithmetic of residuals at several time scales, whole or causal; knows nothing of metrics' names, flags or files.

Arrays are [..., T], time last, float64. Causal means prefix-consistent: the value at i depends on the points up to i
only, so that one pass over a series gives for every point what a call that ends at this point would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FIRST_RENEWAL = 8  # points: before that a causal detector has seen too little to call anything unusual
HISTORY = 10_080  # points that a causal statistic looks back


def window_sum(x: Floats, before: int, after: int) -> Floats:
    """Sum over the points i - before … i + after, cut at both ends; `after` = -1 leaves the point itself out."""
    points = x.shape[-1]
    before, after = min(before, points), min(after, points)
    entering = points + min(after, 0)
    total = np.empty((*x.shape[:-1], points + before + after + 1))
    total[..., : before + 1] = 0.0
    np.cumsum(x[..., :entering], axis=-1, out=total[..., before + 1 : before + 1 + entering])
    if after > 0:
        total[..., before + 1 + points :] = total[..., before + points : before + points + 1]
    return total[..., before + after + 1 :] - total[..., :points]


class Windows:
    """Sums and levels over `width` points around each point (whole) or up to it (causal), of what was observed."""

    def __init__(self, seen: Bools, causal: bool) -> None:
        self.seen = seen
        self.causal = causal
        self.complete = bool(seen.all())

    def reach(self, width: int) -> tuple[int, int]:
        """(points before, points after) that a window of `width` holds beside its own point."""
        return (width - 1, 0) if self.causal else (width // 2, width - 1 - width // 2)

    def counts(self, before: int, after: int) -> Floats:
        """Observed points in each window; [T] where all are observed, [..., T] otherwise."""
        points = self.seen.shape[-1]
        if not self.complete:
            return window_sum(self.seen.astype(np.float64), before, after)
        i = np.arange(points)
        return (np.minimum(i + after + 1, points) - np.maximum(i - before, 0)).astype(np.float64)

    def energy(self, e: Floats, width: int) -> tuple[Floats, Floats]:
        """(sum, count) of `e`, which is 0 where missing, over each point's window, the point included; count >= 1."""
        before, after = self.reach(width)
        count = self.counts(before, after)
        return np.maximum(window_sum(e, before, after), 0.0), count if self.complete else np.maximum(count, 1.0)

    def level(self, g: Floats, width: int, passes: int) -> Floats:
        """Clipped moving mean of `g`, which is 0 where missing; causal: of the points before each.

        A mean, then `passes` times plus the mean of the deviation clipped at its own mean size: nearly a median
        without sorting. NaN where the window holds no observed point.
        """
        before, after = (width, -1) if self.causal else self.reach(width)
        counts = self.counts(before, after)
        share = 1.0 / np.where(counts > 0, counts, np.nan)
        level = window_sum(g, before, after) * share
        for _ in range(passes):
            deviation = g - level
            if self.causal or not self.complete:
                deviation[~(self.seen & np.isfinite(deviation))] = 0.0
            size = window_sum(np.abs(deviation), before, after) * share
            if self.causal or not self.complete:
                size[np.isnan(size)] = 0.0
            level += window_sum(np.clip(deviation, -size, size), before, after) * share
        return level


def quantiles(x: Floats, shares: Sequence[float]) -> list[Floats]:
    """Quantiles (nearest rank) over the last axis, NaN left out, each [..., 1]; NaN where nothing is left."""
    points = x.shape[-1]
    if not points:
        return [np.full((*x.shape[:-1], 1), np.nan) for _ in shares]
    missing = np.isnan(x)
    if not np.count_nonzero(missing):
        places = [round(share * (points - 1)) for share in shares]
        ordered = np.partition(x, sorted(set(places)), axis=-1)
        return [ordered[..., place : place + 1] for place in places]
    last = np.maximum(points - 1 - missing.sum(axis=-1, keepdims=True), 0)
    ranks = [np.rint(share * last).astype(np.intp) for share in shares]
    wanted = sorted(set().union(*(rank.ravel().tolist() for rank in ranks)))
    # NaN goes last either way; many different ranks would be dearer than a sort.
    ordered = np.partition(x, wanted, axis=-1) if len(wanted) <= 2 * len(shares) else np.sort(x, axis=-1)
    return [np.take_along_axis(ordered, rank, axis=-1) for rank in ranks]


def robust_size(r: Floats) -> Floats:
    """Usual size of residuals, NaN left out, [..., 1]: of deviation 1 for normal noise.

    The larger of 1.4826 times the median and Q95 / 1.96 of |r|; where both are 0, from the mean.
    """
    size = np.abs(r)
    middle, high = quantiles(size, (0.5, 0.95))
    tau = np.maximum(1.4826 * middle, high / 1.96)
    if not (tau > 0).all():
        observed = np.maximum((~np.isnan(size)).sum(axis=-1, keepdims=True), 1)
        tau = np.where(tau > 0, tau, 1.2533 * np.nansum(size, axis=-1, keepdims=True) / observed)
    return tau


def renewals(points: int) -> list[tuple[int, int]]:
    """Blocks (start, stop) at whose start causal statistics are renewed; they depend on the position alone."""
    starts = [FIRST_RENEWAL]
    while starts[-1] < points:
        starts.append(starts[-1] + max(4, min(starts[-1] // 6, 1440)))
    stops = [*starts[1:], points]
    return [(start, min(stop, points)) for start, stop in zip(starts, stops) if start < points]


def settled(statistic: Callable[[Floats], Floats], x: Floats, causal: bool) -> Floats:
    """`statistic` ([..., n] -> [..., 1]) of all of `x`, [..., 1]; causal: at each point of what came before, [..., T].

    Causal values are renewed at the starts of `renewals` and NaN before the first of them.
    """
    if not causal:
        return statistic(x)
    result = np.full(x.shape, np.nan)
    for start, stop in renewals(x.shape[-1]):
        result[..., start:stop] = statistic(x[..., max(0, start - HISTORY) : start])
    return result
