"""How a series of scores and flags compares with labels; knows nothing of detectors or of how the answers were made.

Point-wise F1, event F1 and VUS-PR (Paparrizos et al. 2022, "Volume under the surface", in the form of TSB-AD's
`RangeAUC_volume_opt` with 250 thresholds). Point-adjusted measures are left out on purpose: a random score does well.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = 250
WINDOW_WITHOUT_PERIOD = 125

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def measure(labels: Bools, scores: Floats, flags: Bools, values: Floats) -> dict[str, Optional[float]]:
    """All figures of one series; what it does not define (no event) is None.

    labels, scores, flags: [n], NaN scores count as the lowest. values: [n], of which the period is taken for VUS-PR.
    """
    known = np.isfinite(scores)
    scores = np.where(known, scores, scores[known].min() if known.any() else 0.0)
    events = bool(labels.any())
    recall, delay = _detected(labels, flags) if events else (None, None)
    return {
        "vus_pr": vus_pr(labels, scores, period(values)) if events else None,
        "f1": point_f1(labels, flags) if events else None,
        "best_f1": best_point_f1(labels, scores) if events else None,
        "event_f1": event_f1(labels, flags) if events else None,
        "best_event_f1": best_event_f1(labels, scores) if events else None,
        "event_recall": recall,
        "false_alarms_per_1k": false_alarms_per_1k(labels, flags),
        "delay_points": delay,
    }


def runs(marked: Bools) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(first, last) positions of the runs of True."""
    edges = np.diff(np.concatenate([[0], marked.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1


def _touched(first: NDArray[np.intp], last: NDArray[np.intp], marked: Bools) -> Bools:
    """Which of the runs hold a marked point."""
    total = np.concatenate([[0], np.cumsum(marked)])
    return total[last + 1] > total[first]


def point_f1(labels: Bools, flags: Bools) -> float:
    hit = int((labels & flags).sum())
    return 2.0 * hit / max(int(labels.sum()) + int(flags.sum()), 1)


def best_point_f1(labels: Bools, scores: Floats) -> float:
    """Best point-wise F1 over all thresholds of the score."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # ties are flagged together
    return float(np.max(2.0 * hits[ends] / (ends + 1 + labels.sum())))


def event_f1(labels: Bools, flags: Bools) -> float:
    """Harmonic mean of the share of labelled runs that are flagged and the share of flagged runs that are real."""
    if not labels.any() or not flags.any():
        return 0.0
    recall = _touched(*runs(labels), flags).mean()
    precision = _touched(*runs(flags), labels).mean()
    return float(2.0 * recall * precision / (recall + precision)) if recall + precision else 0.0


def best_event_f1(labels: Bools, scores: Floats) -> float:
    """Best event F1 over 120 thresholds of the score, from its highest 0.001 % to its median."""
    thresholds = np.unique(np.quantile(scores, 1.0 - np.geomspace(1e-5, 0.5, 120)))
    return max((event_f1(labels, scores >= threshold) for threshold in thresholds), default=0.0)


def false_alarms_per_1k(labels: Bools, flags: Bools) -> float:
    """Flagged runs that touch no event, per 1,000 points that are not labelled."""
    first, last = runs(flags)
    wrong = int((~_touched(first, last, labels)).sum()) if len(first) else 0
    return 1000.0 * wrong / max(int((~labels).sum()), 1)


def false_alarms(labels: Bools, flags: Bools, apart: float) -> int:
    """Flagged runs that touch no event; runs at most `apart` points after the one before are one alarm with it."""
    first, last = runs(flags)
    wrong = ~_touched(first, last, labels) if len(first) else np.zeros(0, np.bool_)
    first, last = first[wrong], last[wrong]
    return int(len(first) and 1 + (first[1:] - last[:-1] > apart).sum())


def _detected(labels: Bools, flags: Bools) -> tuple[float, Optional[float]]:
    """(share of events flagged, median points from an event's start to its first flag)."""
    first, last = runs(labels)
    found = _touched(first, last, flags)
    flagged = np.flatnonzero(flags)
    if not found.any():
        return 0.0, None
    delay = flagged[np.searchsorted(flagged, first[found])] - first[found]
    return float(found.mean()), float(np.median(delay))


def period(values: Floats, most_points: int = 20_000) -> int:
    """Period by the autocorrelation's highest peak at a lag of 6 to 303 points, else WINDOW_WITHOUT_PERIOD."""
    x = values[:most_points]
    x = x[np.isfinite(x)]
    if len(x) < 20 or np.ptp(x) == 0:
        return WINDOW_WITHOUT_PERIOD
    spectrum = np.fft.rfft(x - x.mean(), 2 * len(x))
    correlation = np.fft.irfft(spectrum * np.conj(spectrum))[: len(x)]
    correlation = (correlation / correlation[0])[3 : min(401, len(x))]
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:])) + 1
    if not len(peaks):
        return WINDOW_WITHOUT_PERIOD
    best = int(peaks[np.argmax(correlation[peaks])])
    return best + 3 if 3 <= best <= 300 else WINDOW_WITHOUT_PERIOD


def vus_pr(labels: Bools, scores: Floats, longest: int) -> float:
    """Mean area under the precision-recall curve, labels softened by windows of 0 to `longest` points."""
    n = len(scores)
    first, last = runs(labels)
    order = np.argsort(-scores, kind="stable")
    thresholds = scores[order][np.linspace(0, n - 1, THRESHOLDS).astype(np.intp)]
    flagged = np.searchsorted(-scores[order], -thresholds, side="right")  # points at or over each threshold
    rank = np.empty(n, np.intp)
    rank[order] = np.arange(n)
    reached = np.searchsorted(flagged, rank, side="right")  # the first threshold at which a point is flagged
    point, distance = _surroundings(first, last, longest // 2, n)
    labelled_hits = np.cumsum(np.bincount(reached[labels], minlength=THRESHOLDS + 1)[:THRESHOLDS])
    inside = labels[point]
    soft, inverse = np.unique(point[~inside], return_inverse=True)
    distance = distance[~inside]
    areas, existing, half_before = [], np.zeros(0), -1
    for window in range(longest + 1):
        half = window // 2
        if half != half_before:
            existing, half_before = _existence(first, last, half, scores, thresholds), half
        within = distance <= half
        weight = np.bincount(
            inverse[within], weights=np.sqrt(1.0 - distance[within] / max(window, 1)), minlength=len(soft)
        )
        weight = np.minimum(weight, 1.0)
        around = np.cumsum(np.bincount(reached[soft], weights=weight, minlength=THRESHOLDS + 1)[:THRESHOLDS])
        hits = labelled_hits + around
        recall = np.minimum(hits / (labels.sum() + around / 2.0), 1.0) * existing
        areas.append(np.sum(np.diff(np.concatenate([[0.0], recall])) * (hits / flagged)))
    return float(np.mean(areas))


def _surroundings(
    first: NDArray[np.intp], last: NDArray[np.intp], most: int, n: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(point, its distance to the event) of every point within `most` points of an event, once per event."""
    away = np.arange(1, most + 1)
    point = np.concatenate([(last[:, None] + away).ravel(), (first[:, None] - away).ravel()])
    distance = np.tile(away, 2 * len(first))
    valid = (point >= 0) & (point < n)
    return point[valid].astype(np.intp), distance[valid]


def _existence(
    first: NDArray[np.intp], last: NDArray[np.intp], half: int, scores: Floats, thresholds: Floats
) -> Floats:
    """Share of the events, widened by `half` and merged where they meet, that each threshold finds."""
    apart = last[:-1] + half < first[1:] - half
    starts = np.maximum(first[np.concatenate([[True], apart])] - half, 0)
    stops = np.minimum(last[np.concatenate([apart, [True]])] + half, len(scores) - 1) + 1
    highest = np.sort([scores[a:b].max() for a, b in zip(starts, stops)])
    return (len(highest) - np.searchsorted(highest, thresholds, side="left")) / len(highest)
