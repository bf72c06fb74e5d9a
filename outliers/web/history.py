"""Closed buckets that were asked of Druid a moment ago, kept for the next question; knows not how they are asked."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Optional

import numpy as np

from outliers.druid.response import Parsed, with_lead_in

MOST_BYTES = 32 * 2**20
_NO_ROWS = np.empty(0, np.int64)


class Kept(NamedTuple):
    """Buckets of [start_s, end_s), the oldest of them asked at `asked_at` (monotonic)."""

    parsed: Parsed
    start_s: int
    end_s: int
    asked_at: float


class History:
    """Buckets by what was asked (`outliers.druid.query.history_key`); each is forgotten `keep_s` after it was asked."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, key: str, start_s: int, end_s: int) -> Optional[Kept]:
        """Return what is kept from `start_s` on, up to `end_s` or less; None where the start itself is not kept."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if self._clock() - kept.asked_at > self._keep_s:
                self._drop(key)
                return None
            self._kept.move_to_end(key)
        if not kept.start_s <= start_s < kept.end_s:
            return None
        end_s = min(end_s, kept.end_s)
        return Kept(cut(kept.parsed, start_s, end_s), start_s, end_s, kept.asked_at)

    def keep(self, key: str, fresh: Kept) -> None:
        """Keep buckets, unless those that are kept already hold them all."""
        if self._keep_s <= 0 or fresh.end_s <= fresh.start_s:
            return
        if self._holds(key, fresh):
            return
        fresh = fresh._replace(parsed=cut(fresh.parsed, fresh.start_s, fresh.end_s))
        with self._lock:
            if key in self._kept:
                self._drop(key)
            self._kept[key] = fresh
            self._bytes += _bytes(fresh)
            while self._bytes > MOST_BYTES and self._kept:
                self._drop(next(iter(self._kept)))

    def _holds(self, key: str, fresh: Kept) -> bool:
        with self._lock:
            before = self._kept.get(key)
        if before is None or self._clock() - before.asked_at > self._keep_s:
            return False
        return before.start_s <= fresh.start_s and fresh.end_s <= before.end_s

    def now(self) -> float:
        return self._clock()

    def _drop(self, key: str) -> None:
        self._bytes -= _bytes(self._kept.pop(key))


def cut(parsed: Parsed, start_s: int, end_s: int) -> Parsed:
    """Return the buckets that start in [start_s, end_s), without rows: context, not something to answer."""
    first, last = np.searchsorted(parsed.series.timestamps, (start_s, end_s))
    part = slice(int(first), int(last))
    series = parsed.series
    return replace(
        parsed,
        series=replace(series, timestamps=series.timestamps[part].copy(), values=series.values[part].copy()),
        ends_s=parsed.ends_s[part].copy(),
        timestamps=(),
        row_position=_NO_ROWS,
        present=parsed.present[part].copy(),
        empty=parsed.empty[part].copy(),
        partial=parsed.partial[part].copy(),
        ends_early_s=None,
        warnings=(),
    )


def joined(before: Parsed, after: Parsed, points: int) -> Parsed:
    """Put `after` behind `before`; where Druid had no row for it, `before` is all there is."""
    return with_lead_in(after, before, points)[0] if len(after.series) else before


def _bytes(kept: Kept) -> int:
    return kept.parsed.series.values.nbytes + 32 * len(kept.parsed.series) + 4096
