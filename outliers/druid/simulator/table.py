"""A data source as columns: blocks of rolled-up rows, one block a segment; knows nothing of queries or HTTP.

A table answers which time its segments cover and gives their rows; they may come from files or be made on demand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000


class Texts(NamedTuple):
    """A dimension: codes int [R] into values, of which one may be None."""

    codes: NDArray[Any]
    values: tuple[Optional[str], ...]


class Numbers(NamedTuple):
    """A metric: values int64 or float64 [R]; null bool [R], or None where no value is null."""

    values: NDArray[Any]
    null: Optional[NDArray[np.bool_]]


class Sketch(NamedTuple):
    """A distinct count: K entries, each a register and rank of one row."""

    row: NDArray[np.int64]
    register: NDArray[Any]
    rank: NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Rows of one segment, sorted by time.

    start_ms, end_ms: what the segment covers, rows or not, cut to what is asked.
    """

    start_ms: int
    end_ms: int
    time_ms: NDArray[np.int64]
    texts: Mapping[str, Texts]
    numbers: Mapping[str, Numbers]
    sketches: Mapping[str, Sketch] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ms)

    def between(self, start_ms: int, end_ms: int) -> Block:
        """The rows in [start_ms, end_ms), as views."""
        if start_ms <= self.start_ms and self.end_ms <= end_ms:
            return self
        low, high = np.searchsorted(self.time_ms, (start_ms, end_ms))
        sketches = {}
        for name, sketch in self.sketches.items():
            first, last = np.searchsorted(sketch.row, (low, high))
            part = slice(int(first), int(last))
            sketches[name] = Sketch(sketch.row[part] - low, sketch.register[part], sketch.rank[part])
        rows = slice(int(low), int(high))
        return Block(
            max(start_ms, self.start_ms),
            min(end_ms, self.end_ms),
            self.time_ms[rows],
            {name: Texts(t.codes[rows], t.values) for name, t in self.texts.items()},
            {name: _cut(n, rows) for name, n in self.numbers.items()},
            sketches,
        )


def _cut(numbers: Numbers, rows: slice) -> Numbers:
    return Numbers(numbers.values[rows], None if numbers.null is None else numbers.null[rows])


class Segment(NamedTuple):
    """[start_ms, end_ms) is what a segment covers; first_ms, last_ms: time of its first and its last row."""

    start_ms: int
    end_ms: int
    first_ms: int
    last_ms: int


class Table(Protocol):
    """A data source."""

    def segments(self, start_ms: int, end_ms: int) -> Sequence[Segment]:
        """The segments that overlap [start_ms, end_ms), sorted, not cut to it."""
        ...

    def blocks(self, start_ms: int, end_ms: int, sensors: Optional[frozenset[str]]) -> Iterator[Block]:
        """Rows in [start_ms, end_ms); where `sensors` is given, those of other sensors may be left out."""
        ...

    def extent(self) -> Optional[tuple[int, int]]:
        """[start, end) of all segments in milliseconds, None of a table without any."""
        ...
