"""Tables from files of events, rolled up to the minute as the recorded Druid was; knows nothing of queries or HTTP.

The ingestion of shared/servers/druid/load.py: `<data source>.jsonl.gz`, one JSON object a line, segments of a day.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Optional

import numpy as np
import orjson

from outliers.druid.simulator.sketch import registers_of
from outliers.druid.simulator.table import DAY_MS, Block, Numbers, Segment, Sketch, Texts
from outliers.errors import ConfigError
from outliers.times import instants_ms

MINUTE_MS = 60_000
SUFFIX = ".jsonl.gz"


class RollUp(NamedTuple):
    """dimensions kept apart; metrics as (kind, name, field), kind longSum, doubleSum, doubleMax, … or hyperUnique."""

    dimensions: tuple[str, ...]
    metrics: tuple[tuple[str, str, str], ...]


ROLL_UPS = {
    "rb_flow": RollUp(
        ("sensor_name", "namespace", "lan_ip", "application_id_name", "direction"),
        (
            ("longSum", "events", "events"),
            ("longSum", "sum_bytes", "sum_bytes"),
            ("longSum", "sum_pkts", "sum_pkts"),
            ("hyperUnique", "clients", "client_mac"),
        ),
    ),
    "rb_monitor": RollUp(
        ("sensor_name", "monitor"),
        (
            ("count", "events", ""),
            ("doubleSum", "sum_value", "value"),
            ("doubleMax", "max_value", "value"),
            ("doubleMin", "min_value", "value"),
        ),
    ),
}
_REDUCERS: dict[str, Callable[..., Any]] = {"Sum": np.add.at, "Max": np.maximum.at, "Min": np.minimum.at}
_START = {"Sum": 0.0, "Max": -np.inf, "Min": np.inf}


class EventTable:
    """A table held in memory, one block a day that has events."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = sorted(blocks, key=lambda block: block.start_ms)

    def segments(self, start_ms: int, end_ms: int) -> Sequence[Segment]:
        return [
            Segment(b.start_ms, b.end_ms, int(b.time_ms[0]), int(b.time_ms[-1]))
            for b in self._blocks
            if b.start_ms < end_ms and b.end_ms > start_ms
        ]

    def blocks(self, start_ms: int, end_ms: int, sensors: Optional[frozenset[str]]) -> Iterator[Block]:
        for block in self._blocks:
            if block.start_ms < end_ms and block.end_ms > start_ms:
                yield block.between(start_ms, end_ms)

    def extent(self) -> Optional[tuple[int, int]]:
        return (self._blocks[0].start_ms, self._blocks[-1].end_ms) if self._blocks else None


def load_tables(directory: str) -> dict[str, EventTable]:
    """Read every `<data source>.jsonl.gz` of a directory; ConfigError where there is none, or one cannot be read.

    A data source without a known roll-up keeps every text key apart and sums every number.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except OSError as error:
        raise ConfigError(f"the folder of events cannot be read: {error.strerror}") from error
    if not names:
        raise ConfigError(f"the folder of events holds no file named <data source>{SUFFIX}")
    tables = {}
    for name in names:
        data_source = name[: -len(SUFFIX)]
        try:
            with gzip.open(os.path.join(directory, name), "rb") as file:
                events = [orjson.loads(line) for line in file if line.strip()]
        except (OSError, EOFError, orjson.JSONDecodeError) as error:
            raise ConfigError(f"the events in {name} cannot be read: {error}") from error
        events = [event for event in events if isinstance(event, dict) and "timestamp" in event]
        if not events:
            continue  # a file of something else beside the events, as recorded answers are
        tables[data_source] = EventTable(roll_up(events, ROLL_UPS.get(data_source) or _guessed(events)))
    return tables


def _guessed(events: Sequence[dict[str, Any]]) -> RollUp:
    texts: dict[str, None] = {}
    numbers: dict[str, str] = {}
    for event in events:
        for key, value in event.items():
            if key != "timestamp" and isinstance(value, str):
                texts[key] = None
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                numbers[key] = "doubleSum" if isinstance(value, float) or numbers.get(key) == "doubleSum" else "longSum"
    return RollUp(tuple(texts), tuple((kind, key, key) for key, kind in numbers.items() if key not in texts))


def roll_up(events: Sequence[dict[str, Any]], how: RollUp) -> list[Block]:
    """One row for each minute and combination of dimensions; a block for each day that has a row."""
    if not events:
        return []
    minutes = instants_ms([str(event["timestamp"]) for event in events]) // MINUTE_MS
    keys: list[tuple[Any, ...]] = [
        (minute, *(_text(event.get(dimension)) for dimension in how.dimensions))
        for minute, event in zip(minutes.tolist(), events)
    ]
    order = {key: i for i, key in enumerate(sorted(set(keys), key=_sort_key))}
    row = np.array([order[key] for key in keys], np.int64)
    unique = list(order)
    time_ms = np.array([key[0] for key in unique], np.int64) * MINUTE_MS
    texts = {d: _texts([key[i + 1] for key in unique]) for i, d in enumerate(how.dimensions)}
    numbers, sketches = {}, {}
    for kind, name, field in how.metrics:
        values = [event.get(field) for event in events]
        if kind == "hyperUnique":
            sketches[name] = _sketch(row, values)
        else:
            numbers[name] = _reduced(kind, row, values, len(unique))
    whole = Block(int(time_ms[0]), int(time_ms[-1]) + MINUTE_MS, time_ms, texts, numbers, sketches)
    days = np.unique(time_ms // DAY_MS) * DAY_MS
    return [_day(whole, int(day)) for day in days]


def _day(whole: Block, start_ms: int) -> Block:
    part = whole.between(start_ms, start_ms + DAY_MS)
    return Block(start_ms, start_ms + DAY_MS, part.time_ms, part.texts, part.numbers, part.sketches)


def _text(value: Any) -> Optional[str]:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _sort_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (key[0], *((part is not None, part or "") for part in key[1:]))


def _texts(column: Sequence[Optional[str]]) -> Texts:
    values = sorted(set(column), key=lambda value: (value is not None, value or ""))
    code = {value: i for i, value in enumerate(values)}
    return Texts(np.array([code[value] for value in column], np.int32), tuple(values))


def _reduced(kind: str, row: Any, values: Sequence[Any], rows: int) -> Numbers:
    if kind == "count":
        return Numbers(np.bincount(row, minlength=rows), None)
    given = np.array([isinstance(v, (int, float)) and not isinstance(v, bool) for v in values], bool)
    dtype = np.int64 if kind.startswith("long") else np.float64
    inputs = np.array([v if ok else 0 for v, ok in zip(values, given)], dtype)
    how = kind[-3:]
    result = np.zeros(rows, dtype) if how == "Sum" else np.full(rows, _START[how])
    _REDUCERS[how](result, row[given], inputs[given])
    null = np.bincount(row[given], minlength=rows) == 0
    result[null] = 0
    return Numbers(result.astype(dtype), null if null.any() else None)


def _sketch(row: Any, values: Sequence[Any]) -> Sketch:
    entries = sorted({(int(r), *_registers(v)) for r, v in zip(row, values) if isinstance(v, str) and v})
    columns = np.array(entries, np.int64).reshape(-1, 3)
    return Sketch(columns[:, 0], columns[:, 1], columns[:, 2])


@lru_cache(maxsize=1 << 16)
def _registers(value: str) -> tuple[int, int]:
    return registers_of(value.encode())
