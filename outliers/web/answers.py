"""Answers about closed intervals, kept for some seconds; must not know how an answer is found."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple, Optional

from outliers.web.answer import Answer

MOST_ROWS = 100_000  # of all kept answers together


class _Kept(NamedTuple):
    answer: Answer
    since: float


class AnswerCache:
    """Answers by everything that they depend on; each is forgotten after `keep_s`."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._rows = 0
        self._lock = threading.Lock()

    @property
    def on(self) -> bool:
        return self._keep_s > 0

    def get(self, key: Hashable) -> Optional[Answer]:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if self._clock() - kept.since > self._keep_s:
                self._drop(key)
                return None
            return kept.answer

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer; the caller sees to it that it is one that may be kept."""
        with self._lock:
            if key in self._kept:
                self._drop(key)
            self._kept[key] = _Kept(answer, self._clock())
            self._rows += len(answer.rows) + 1
            while self._rows > MOST_ROWS:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        self._rows -= len(self._kept.pop(key).answer.rows) + 1
