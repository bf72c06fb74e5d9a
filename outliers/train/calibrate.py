"""Where the line has to lie for an alarm budget, counted on held-out time; it must not know how a model is fitted.

The alarms are those that the judge would raise (second witness, own contribution, runs), at the metric that is
furthest out; runs less than an hour apart are one alarm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outliers.infer.judge import ALONE, FEW_POINTS, KEEP, OWN_SHARE, PLAIN, agreement, of_any
from outliers.infer.metadata import MODES, Line
from outliers.infer.scores import Scores
from outliers.series import Series

BUDGETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # alarms a day
FIXED = {"whole": 1.25, "causal": 1.6}  # the line where held-out time is too short to count on
LEAST_K = {"whole": 1.2, "causal": 1.3}
MOST_K = 2.0
_TRUST_DAYS = 4.0  # held-out time at which what was counted weighs as much as the fixed line
LEAST_DAYS = 1.0  # held-out time below which only the fixed line is known
_GRID = np.round(np.geomspace(0.8, 4.0, 41), 4)
_TAIL = 0.15  # how far k rises while the alarms fall e-fold, where there are too few to count
_DAY_S, _ALARM_GAP_S = 86_400, 3600


@dataclass(frozen=True)
class Held:
    """Held-out time, scored at k = 1, as `any` is [T]; first: of the points that count.

    plain: in lines, the distance that needs no second witness.
    """

    distance: NDArray[np.float64]
    own: NDArray[np.float64]
    agreed: NDArray[np.bool_]
    first: int
    step_s: int
    mode: str
    plain: float = PLAIN

    @property
    def days(self) -> float:
        return (len(self.distance) - self.first) * self.step_s / _DAY_S

    def part(self, start: float, stop: float) -> Held:
        """A share of the points that count."""
        n = len(self.distance) - self.first
        a, b = self.first + int(n * start), self.first + int(n * stop)
        return dataclasses.replace(self, distance=self.distance[:b], own=self.own[:b], agreed=self.agreed[:b], first=a)


def held(series: Series, scores: Scores, first: int, mode: str) -> Held:
    """Reduce a scored series (lead-in before row `first`) to what the counting needs."""
    column, s, own = of_any(series, scores)
    s = np.nan_to_num(s)
    agreed = agreement(series, column, s >= _GRID[0], mode)
    plain = ALONE if len(series) < FEW_POINTS else PLAIN
    return Held(s, np.nan_to_num(own), agreed, first, series.step_s, mode, plain)


def alarms(h: Held, k: float) -> int:
    """Alarms at a line: runs that hold a confirmed point, those less than an hour apart taken as one."""
    at = np.flatnonzero(confirmed(h, k))
    if not len(at):
        return 0
    run = np.cumsum(np.diff((h.distance >= KEEP * k).astype(np.int8), prepend=0) > 0)
    apart = (np.diff(run[at]) > 0) & (np.diff(at) * h.step_s >= _ALARM_GAP_S)
    return 1 + int(apart.sum())


def confirmed(h: Held, k: float) -> NDArray[np.bool_]:
    """Points that the judge would confirm at a line, of those that count."""
    result = (h.distance >= k) & (h.own >= OWN_SHARE * k) & (h.agreed | (h.distance >= h.plain * k))
    result[: h.first] = False
    return result


def line(h: Held) -> Line:
    """k for each budget; only the fixed line where the held-out time is too short."""
    fixed = FIXED[h.mode]
    if h.days < LEAST_DAYS:
        return Line(fixed)
    count = np.array([alarms(h, k) for k in _GRID], float)
    count = np.maximum.accumulate(count[::-1])[::-1]  # more of them at a higher line are runs that fell apart
    trust = h.days / (h.days + _TRUST_DAYS)
    least = LEAST_K[h.mode]
    found = {b: fixed + trust * (_k_for(count, b * h.days) - fixed) for b in BUDGETS}
    return Line(fixed, {b: round(float(np.clip(k, least, MOST_K)), 4) for b, k in found.items()})


def _k_for(count: NDArray[np.float64], allowed: float) -> float:
    """The lowest k with at most so many alarms; where less than one is allowed, on along the usual tail."""
    enough = np.flatnonzero(count <= max(allowed, 1.0))
    k = float(_GRID[enough[0]]) if len(enough) else float(_GRID[-1])
    if allowed < 1.0:
        k += _TAIL * float(np.log(1.0 / allowed))
    return min(k, MOST_K)


def lines(held_by: Mapping[tuple[str, str], Held], granularities: Mapping[str, int]) -> dict[str, dict[str, Line]]:
    """Lines of every granularity and mode; held_by: (granularity, mode) -> held-out time, where there is any."""
    return {
        name: {mode: line(held_by[name, mode]) if (name, mode) in held_by else Line(FIXED[mode]) for mode in MODES}
        for name in granularities
    }
