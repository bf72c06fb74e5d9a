"""Rows to judge and their context, from Druid or the caller, on one grid; must not know how they are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.config import Config
from outliers.druid.client import DruidAnswer
from outliers.druid.query import LeadIn, describe, history_key, lead_in_query, over
from outliers.druid.response import Parsed, ends_early_warning, names_of, parse_rows, with_lead_in
from outliers.errors import DruidTimeout, InvalidRequest, OutliersError, Unservable
from outliers.series import Granularity, parse_intervals
from outliers.times import instant_text, parse_instant_ms
from outliers.web.fetch import Fetcher, Times
from outliers.web.history import History, Kept, joined

AHEAD_S = 300.0  # a newest event this far ahead of the clock is said


@dataclass(frozen=True)
class Gathered:
    """Rows on their grid, lead-in first.

    rows: positions in `parsed.timestamps` of the rows that are answered, in their order.
    lead_in: the ISO period that was asked before the interval, None = none. lead_in_outcome: for the metrics.
    complete_until_s: a bucket that ends later is not complete. times: what Druid knows of them.
    unloaded: bool [T], Druid holds no segment for a part of the bucket. warnings: sentences.
    """

    parsed: Parsed
    rows: NDArray[np.int64]
    first_asked: int
    lead_in: Optional[str]
    lead_in_outcome: str
    complete_until_s: float
    times: Times
    unloaded: NDArray[np.bool_]
    warnings: tuple[str, ...]


class Source(NamedTuple):
    """Where rows come from, and the clock."""

    config: Config
    fetcher: Fetcher
    history: History
    clock: Callable[[], float]


def given(rows: list[Any], query: Optional[Mapping[str, Any]], judge_from: Optional[str], source: Source) -> Gathered:
    """Take the rows that the caller sent."""
    config = source.config
    parsed = parse_rows(rows, query, empty=config.detection.empty, points=config.limits.points, whole=False)
    positions = np.arange(len(parsed.timestamps))
    first_asked = 0
    if judge_from is not None:
        try:
            from_s = parse_instant_ms(judge_from) / 1000
        except ValueError as error:
            raise InvalidRequest(f"'judge_from' is no ISO time: {error}") from error
        first_asked = int(np.searchsorted(parsed.series.timestamps, from_s))
        positions = positions[parsed.row_position >= first_asked]
    now_s = source.clock()
    return Gathered(
        parsed=parsed,
        rows=positions,
        first_asked=first_asked,
        lead_in=None,
        lead_in_outcome="none",
        complete_until_s=now_s - config.druid.settle_s,
        times=Times(),
        unloaded=np.zeros(len(parsed.series), bool),
        warnings=(*parsed.warnings, *_ahead_warnings(parsed, positions, now_s)),
    )


def _ahead_warnings(parsed: Parsed, positions: NDArray[np.int64], now_s: float) -> list[str]:
    """Say how many of the caller's rows hold events that the clock has not come to; empty rows may well be ahead."""
    ahead = (parsed.series.timestamps > now_s) & ~parsed.empty & np.isfinite(parsed.series.values).any(axis=1)
    count = int(ahead[parsed.row_position[positions]].sum())
    if not count:
        return []
    what = "1 row is" if count == 1 else f"{count} rows are"
    return [f"{what} later than this node's clock: unfinished, and not judged unless already above the band."]


def ask(query: Mapping[str, Any], lead_in: str, deadline_s: float, source: Source) -> Gathered:
    """Ask Druid for the query's rows and for what lies before them, at the same time.

    query: checked and bounded. deadline_s: monotonic time by which the caller wants an answer.
    """
    config, fetcher = source.config, source.fetcher
    started_s = time.monotonic()
    granularity = Granularity.parse(query["granularity"])
    warnings: list[str] = []
    wait_for_times = fetcher.start_times(query)
    before = _LeadIn(query, granularity, lead_in, source, warnings)
    answer = fetcher.query(query, _left_s(deadline_s, config.druid.timeout_s))
    parsed = parse_rows(answer.rows, query, empty=config.detection.empty, points=config.limits.points)
    times = wait_for_times(deadline_s - time.monotonic())
    complete_until_s = _complete_until(times.newest_s, source, warnings)
    uncovered = list(answer.uncovered)
    joined_rows, offset, outcome = parsed, 0, "none"
    if before.plan is not None:
        lead = before.wait(started_s + config.druid.lead_in_timeout_s, warnings)
        outcome = before.outcome
        if lead is not None:
            uncovered += before.uncovered
            joined_rows, offset = with_lead_in(parsed, lead, config.limits.points)
            _remember(before, parsed, joined_rows, lead, answer, complete_until_s, query, source)
    warnings += parsed.warnings
    if parsed.ends_early_s is not None:
        warnings.append(ends_early_warning(parsed.ends_early_s))
    unloaded = _unloaded(joined_rows, uncovered)
    warnings += _uncovered_warnings(uncovered, times, complete_until_s + config.druid.settle_s)
    return Gathered(
        parsed=joined_rows,
        rows=np.arange(len(parsed.timestamps)),
        first_asked=offset,
        lead_in=before.plan.text if before.plan is not None and outcome != "given_up" else None,
        lead_in_outcome=outcome,
        complete_until_s=complete_until_s,
        times=times,
        unloaded=unloaded,
        warnings=tuple(dict.fromkeys(warnings)),
    )


class _LeadIn:
    """The lead-in of one query, under way: kept buckets and what must still be asked."""

    def __init__(
        self, query: Mapping[str, Any], granularity: Granularity, lead_in: str, source: Source, warnings: list[str]
    ) -> None:
        self.plan: Optional[LeadIn] = None
        self.outcome = "none"
        self.kept: Optional[Kept] = None
        self.asked_at = source.history.now()
        self.uncovered: tuple[tuple[int, int], ...] = ()
        self._source = source
        self._future: Optional[Future[DruidAnswer]] = None
        if not names_of(query):
            return  # nothing to look for context of
        try:
            self.plan = lead_in_query(query, granularity, lead_in, source.config.limits.points)
        except Unservable as error:
            warnings.append(f"The lead-in was left out: {error}.")
            self.outcome = "given_up"
        if self.plan is None:
            return
        self.key = history_key(query)
        self.kept = source.history.find(self.key, self.plan.start_s, self.plan.end_s)
        from_s = self.plan.start_s
        if self.kept is not None:
            self.asked_at, from_s = self.kept.asked_at, self.kept.end_s
        if from_s >= self.plan.end_s:
            self.outcome = "kept"
            return
        self.outcome = "asked" if self.kept is None else "extended"
        self._query = over(self.plan.query, from_s, self.plan.end_s)
        timeout_s = source.config.druid.lead_in_timeout_s
        self._future = source.fetcher.start(lambda: source.fetcher.query(self._query, timeout_s, "lead_in"))

    def wait(self, until_s: float, warnings: list[str]) -> Optional[Parsed]:
        """Return the lead-in, or None where it is given up, which `warnings` then says."""
        if self._future is None:
            return self.kept.parsed if self.kept else None
        config = self._source.config
        try:
            answer = self._future.result(max(until_s - time.monotonic(), 0.0))
            self.uncovered = tuple(answer.uncovered)
            fresh = parse_rows(answer.rows, self._query, empty=config.detection.empty, points=config.limits.points)
        except (OutliersError, FutureTimeout) as error:
            self._future.cancel()
            self.outcome = "given_up"
            slow = isinstance(error, (FutureTimeout, DruidTimeout))
            why = "Druid did not give it in time" if slow else str(error)
            warnings.append(f"Judged without what came before the interval (lead-in): {why}.")
            return None
        return fresh if self.kept is None else joined(self.kept.parsed, fresh, config.limits.points)


def _remember(
    before: _LeadIn,
    asked: Parsed,
    together: Parsed,
    lead: Parsed,
    answer: DruidAnswer,
    complete_until_s: float,
    query: Mapping[str, Any],
    source: Source,
) -> None:
    """Keep the closed buckets: those of the lead-in, and behind them those that were asked, if they are whole."""
    plan = before.plan
    if plan is None or before.uncovered:
        return
    kept, end_s = lead, plan.end_s
    if not (
        answer.uncovered
        or asked.partial[:1].any()
        or query.get("limit")
        or asked.ends_early_s is not None
        or not len(asked.series)
        or len(parse_intervals(query["intervals"])) != 1
    ):
        kept, end_s = together, int(asked.series.timestamps[-1] if asked.partial[-1] else asked.ends_s[-1])
    if end_s > complete_until_s:
        closed = int(np.searchsorted(kept.ends_s, complete_until_s, side="right"))
        end_s = int(kept.ends_s[closed - 1]) if closed else plan.start_s
    source.history.keep(before.key, Kept(kept, plan.start_s, end_s, before.asked_at))


def _complete_until(newest_s: Optional[float], source: Source, warnings: list[str]) -> float:
    """Return the time before which buckets are complete; say where the newest event is stale, or ahead of the clock."""
    now_s, config = source.clock(), source.config
    if newest_s is None:
        return now_s - config.druid.settle_s
    if now_s - newest_s > config.detection.stale_s:
        warnings.append(
            f"The newest event in Druid is of {instant_text(int(newest_s * 1000))}, "
            f"{_span(now_s - newest_s)} ago: what came later is not known."
        )
    elif newest_s - now_s > AHEAD_S:
        warnings.append(
            f"The newest event in Druid is of {instant_text(int(newest_s * 1000))}, "
            f"{_span(newest_s - now_s)} ahead of this node's clock."
        )
    return min(newest_s, now_s) - config.druid.settle_s


def _span(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{int(seconds)} seconds"


def _unloaded(parsed: Parsed, uncovered: list[tuple[int, int]]) -> NDArray[np.bool_]:
    unloaded = np.zeros(len(parsed.series), bool)
    for start_s, end_s in uncovered:
        unloaded |= (parsed.series.timestamps < end_s) & (parsed.ends_s > start_s)
    return unloaded


def _uncovered_warnings(uncovered: list[tuple[int, int]], times: Times, newest_s: float) -> list[str]:
    """Name the holes; what lies before the first event or after the newest one is none."""
    warnings = []
    for start_s, end_s in uncovered:
        until_s = min(end_s, int(newest_s))
        if times.first_known:
            start_s = max(start_s, int(times.first_s) if times.first_s is not None else until_s)
        if start_s < until_s:
            warnings.append(f"Druid holds no data for {describe(start_s, until_s)}.")
    return warnings


def _left_s(deadline_s: float, most_s: float) -> float:
    left_s = min(most_s, deadline_s - time.monotonic())
    if left_s <= 0:
        raise DruidTimeout("there was no time left to ask Druid")
    return left_s
