"""The one function that makes score, flag and band of what a detector says; knows nothing of how the detector works.

Every route, verb and mode asks it (CONTRACT §2: flag, score, band). It decides in float64 on the very numbers that are
written: a point is flagged exactly when it lies strictly outside its band or is carried by its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from outliers.infer import witness as second
from outliers.infer.scores import Scores
from outliers.series import Series

ANY = "any"

OWN_SHARE = 0.75  # of the line that the point's own short scale must reach: no smear of its neighbours
PLAIN = 2.0  # score that needs no second witness
KEEP = 0.8  # score down to which a confirmed run goes on,
KEEP_GAP, KEEP_GAP_S = 18, 5400  # over so many points and seconds between two that contribute, one point at least
EDGE_S = 900  # a run begins and ends with a point outside its band; a point before and after, where points are shorter
ALONE_OF_ANY = 2.0  # with `any`, how much further out than the line a metric must be that no other metric joins
FEW_POINTS = 120  # below, the query tells the second witness too little,
ALONE = 1.1  # and the score has to be clearer by itself
MOST_BELOW = 0.9999999  # largest score of a point that is not flagged
MOST = 1e9
DIGITS = 8  # significant, on the wire: float32 has 7.2

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """The judgement of each point of a series, [T] each, as it is written on the wire.

    metric: column of the metric that the row is about (with `any` the one that is furthest out).
    forecast, lower, upper, score: float64, NaN = null. flag ⇔ score ≥ 1 ⇔ strictly outside [lower, upper] or carried.
    direction: 1 up, -1 down, 0 where the value is missing.
    deviating: per point the names of the metrics with s ≥ 1, strongest first.
    """

    metrics: tuple[str, ...]
    metric: NDArray[np.int64]
    forecast: Floats
    lower: Floats
    upper: Floats
    score: Floats
    flag: Bools
    carried: Bools
    direction: NDArray[np.int8]
    deviating: list[tuple[str, ...]]


def judge(
    series: Series,
    scores: Scores,
    metric: str,
    *,
    empty: Optional[Bools] = None,
    counting: Collection[str] = (),
    witness: bool = True,
    mode: str = "whole",
    nonnegative: Union[bool, Collection[str]] = (),
    judged: Optional[Bools] = None,
    rarely_empty: bool = False,
) -> Verdict:
    """Judge every point of `series` by the `scores` of its metrics.

    metric: a metric of the series, or "any": at each point the one that is furthest out.
    empty: [T], buckets without events. counting: metrics that count, for which an empty bucket needs no second witness.
    witness: False leaves the second witness out. nonnegative: metrics whose band never goes below 0 (True: all).
    rarely_empty: empty buckets are exceptions by what is known of the sensor: each is over the line of what counts.
    judged: [T], points that are answered (lead-in is not); the others only serve as context. ValueError for a metric
    that the series does not have.
    """
    points = len(series)
    if rarely_empty and empty is not None and empty.any():
        scores = _with_silence(series, scores, empty, counting)
    at: tuple[Any, Any]  # where in [T, M] the values lie that the answer is about
    if metric == ANY:
        column, s, own = of_any(series, scores)
        at = np.arange(points), column
    else:
        at = slice(None), series.column(metric)
        column = np.full(points, at[1], np.int64)
        s = np.where(np.isfinite(series.values[at]), scores.score[at].astype(np.float64), np.nan)
        own = scores.own[at].astype(np.float64)
    values = series.values[at]
    silent = np.zeros(points, np.bool_) if empty is None else empty & _counts(series, counting)[column]
    plain = _plain(s, silent, witness, mode)
    run, confirmed = _runs(series, s, own, column, plain, mode, judged)
    floor = _floor(series.metrics, nonnegative)[column]
    first = 0 if judged is None or not judged.any() else int(judged.argmax())  # what lies before is not written
    written = np.stack([part[at] for part in scores[:3]]).astype(np.float64)
    written[:, first:] = _significant(written[:, first:])
    forecast, lower, upper = np.maximum(written, floor)
    lower = np.where(np.isnan(forecast), lower, np.minimum(lower, forecast))  # it always holds the forecast
    upper = np.where(np.isnan(forecast), upper, np.maximum(upper, forecast))
    below, above = values < lower, values > upper
    cause = below | above | silent if rarely_empty else below | above
    flag = run if mode == "causal" else _from_cause_to_cause(run, cause, confirmed, series.step_s)
    final = np.where(flag, np.clip(s, 1.0, MOST), np.minimum(s / (1.0 + s), MOST_BELOW))
    return Verdict(
        metrics=series.metrics,
        metric=column,
        forecast=forecast,
        lower=np.where(below & ~flag, values, lower),  # and every point that is not flagged
        upper=np.where(above & ~flag, values, upper),
        score=_significant(final),
        flag=flag,
        carried=flag & ~below & ~above,
        direction=_direction(values, forecast, floor),
        deviating=_deviating(series, scores, flag),
    )


def _with_silence(series: Series, scores: Scores, empty: Bools, counting: Collection[str]) -> Scores:
    """The scores with each empty bucket at least at the line, where a metric counts; its band begins above 0."""
    silent = empty[:, None] & _counts(series, counting)
    one = np.float32(1.0)
    lower = np.where(
        silent & (scores.expected > 0), np.maximum(scores.lower, np.minimum(scores.expected, one)), scores.lower
    )
    return scores._replace(
        lower=lower,
        score=np.where(silent, np.fmax(scores.score, one), scores.score),
        own=np.where(silent, np.fmax(scores.own, one), scores.own),
    )


def _counts(series: Series, counting: Collection[str]) -> Bools:
    """Which metrics count, [M]."""
    return np.array([name in counting for name in series.metrics], np.bool_)


def _known(series: Series, scores: Scores, rows: Union[slice, NDArray[np.int64]] = slice(None)) -> Floats:
    """Scores of rows [R, M], float64; NaN where the value is missing."""
    return np.where(np.isfinite(series.values[rows]), scores.score[rows].astype(np.float64), np.nan)


def of_any(series: Series, scores: Scores) -> tuple[NDArray[np.int64], Floats, Floats]:
    """What `any` is about at each point: the metric that is furthest out, its column, score and own scale, [T] each.

    Each metric has its own chance of a false alarm, so one alone must be ALONE_OF_ANY times as far out: the score is
    that of the second metric, or the first's over ALONE_OF_ANY. NaN where no metric is known.
    """
    s_all = _known(series, scores)
    rows, column = np.arange(len(s_all)), np.asarray(np.argmax(np.nan_to_num(s_all, nan=-1.0), axis=1), dtype=np.int64)
    s, own = s_all[rows, column], scores.own[rows, column].astype(np.float64)
    if s_all.shape[1] == 1:
        return column, s, own
    second_s = np.partition(np.nan_to_num(s_all), -2, axis=1)[:, -2]
    share = np.maximum(second_s, s / ALONE_OF_ANY) / np.where(s > 0, s, 1.0)
    return column, s * share, own * share


def _plain(s: Floats, silent: Bools, witness: bool, mode: str) -> Bools:
    """Points that need no second witness: silent, plainly out, or told by a query (live: so far) of few points."""
    if not witness:
        return np.ones(len(s), np.bool_)
    known = np.arange(1, len(s) + 1) if mode == "causal" else np.full(len(s), len(s))
    return np.asarray((s >= np.where(known < FEW_POINTS, ALONE, PLAIN)) | silent)


def _runs(
    series: Series,
    s: Floats,
    own: Floats,
    column: NDArray[np.int64],
    plain: Bools,
    mode: str,
    judged: Optional[Bools],
) -> tuple[Bools, Bools]:
    """Points of the runs that hold a confirmed point, and those; a run goes on while s ≥ KEEP (causal: forward only).

    The long scales are over the line for hours after what lasted minutes, hence OWN_SHARE.
    """
    over = s >= 1.0
    candidate = over & (own >= OWN_SHARE)
    if not candidate.any():
        return candidate, candidate
    kept = (s >= KEEP) & _between_causes(own, series.step_s, mode)
    run = _numbered(kept)
    asked = np.ones(int(run[-1]) + 1, np.bool_)
    if judged is not None:
        asked[:] = False
        asked[run[kept & judged]] = True
    confirmed = candidate & plain
    if (candidate & ~plain & kept & asked[run]).any():
        confirmed |= candidate & agreement(series, column, over, mode)
    first = np.full(int(run[-1]) + 1, len(s))
    np.minimum.at(first, run[confirmed], np.flatnonzero(confirmed))
    from_first = first[run]
    live = np.arange(len(s)) >= from_first
    return np.asarray(kept & (live if mode == "causal" else from_first < len(s))), confirmed


def _numbered(there: Bools) -> NDArray[np.int64]:
    """Number, from 1 on, of the run that each point that is there belongs to; of no use at the others."""
    return np.cumsum(np.diff(there, prepend=False) & there)


def _from_cause_to_cause(run: Bools, cause: Bools, confirmed: Bools, step_s: int) -> Bools:
    """The runs from their first cause to their last; as they are where that would hold no confirmed point.

    cause: points outside their band, and those whose silence is over the line. A scale of several points is over the
    line before and after what it saw.
    """
    cause = run & cause
    if not cause.any():
        return run
    points, edge = len(run), int(step_s <= EDGE_S)
    cause[[0, -1]] |= run[[0, -1]]  # what lies beyond the query may be one
    position = np.arange(points)
    number = _numbered(run)
    first, last = np.full(int(number[-1]) + 1, points), np.full(int(number[-1]) + 1, -points)
    np.minimum.at(first, number[cause], position[cause])
    np.maximum.at(last, number[cause], position[cause])
    inside = run & (position >= first[number] - edge) & (position <= last[number] + edge)
    holds = np.zeros(len(first), np.bool_)
    holds[number[inside & confirmed]] = True
    return np.asarray(inside | (run & ~holds[number]))


def _between_causes(own: Floats, step_s: int, mode: str) -> Bools:
    """Points that contribute themselves or lie in a gap between two that do; live, only in what came before."""
    points, gap = len(own), max(min(KEEP_GAP, KEEP_GAP_S // step_s), 1)
    position = np.arange(points)
    cause = own >= OWN_SHARE
    before = np.maximum.accumulate(np.where(cause, position, -points - gap))
    if mode == "causal":
        return np.asarray(position == before)
    after = np.minimum.accumulate(np.where(cause, position, 2 * points + gap)[::-1])[::-1]
    return np.asarray(after - before <= gap)


def agreement(series: Series, column: NDArray[np.int64], over: Bools, mode: str) -> Bools:
    """Where the second witness agrees on any of the metrics that are furthest out somewhere over the line.

    It is also shown the logarithm: a query's noise is mostly that of its busy hours, in which ten times the night's
    traffic drowns.
    """
    agreed = np.zeros(len(series), np.bool_)
    for position in np.unique(column[over]):
        values = series.values[:, position]
        for seen_as in (values, _logarithm(values)):
            if seen_as is not None and not agreed[over].all():
                agreed |= second.agreement(second.score(seen_as, series.timestamps, series.step_s, mode), mode)
    return agreed


def _logarithm(values: Floats) -> Optional[Floats]:
    """The values on a scale of ratios; None for what can be negative or is mostly 0."""
    known = values[np.isfinite(values)]
    if not known.size or known.min() < 0 or np.median(known) == 0:
        return None
    return np.log(values + 0.1 * np.median(known))


def _floor(metrics: tuple[str, ...], nonnegative: Union[bool, Collection[str]]) -> Floats:
    """Lowest value that each metric can have, [M]."""
    if isinstance(nonnegative, bool):
        return np.full(len(metrics), 0.0 if nonnegative else -np.inf)
    return np.array([0.0 if name in nonnegative else -np.inf for name in metrics])


def _significant(x: Floats) -> Floats:
    """`x` rounded to DIGITS significant digits, so that what is written is short and is what was decided on."""
    x = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = DIGITS - 1 - np.floor(np.log10(np.abs(x)))
    digits[~np.isfinite(digits)] = 0.0
    shift = 10.0 ** np.clip(digits, -300, 22)
    return np.asarray(np.round(x * shift) / shift)


def _direction(values: Floats, forecast: Floats, floor: Floats) -> NDArray[np.int8]:
    """Below what was expected, or as low as a value can be: in a long outage nothing is expected any more."""
    direction = np.where((values < forecast) | (values <= floor), np.int8(-1), np.int8(1))
    return np.where(np.isfinite(values), direction, np.int8(0))


def _deviating(series: Series, scores: Scores, flag: Bools) -> list[tuple[str, ...]]:
    deviating: list[tuple[str, ...]] = [()] * len(flag)
    points = np.flatnonzero(flag)
    s = _known(series, scores, points)
    strongest = np.argsort(-s, axis=1, kind="stable").tolist()
    for point, order, count in zip(points.tolist(), strongest, (s >= 1.0).sum(axis=1).tolist()):
        deviating[point] = tuple([series.metrics[i] for i in order[:count]])
    return deviating
