"""Asking a Druid broker: queries, the time of its newest and first events, its largest sensors; knows no model.

Druid's errors become the tree of `outliers.errors` here; its messages reach the log, its class the caller.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Protocol, Union

import orjson

from outliers.druid.query import (
    SENSOR_DIMENSION,
    Filter,
    canonical_filter,
    canonical_text,
    time_boundary_query,
    top_sensors_query,
    with_context,
)
from outliers.druid.transport import Reply, Transport
from outliers.errors import DruidError, DruidFailed, DruidRefused, DruidTimeout, DruidUnreachable, Unservable
from outliers.series import parse_intervals
from outliers.times import DAY_S, parse_instant_ms

log = logging.getLogger(__name__)

Observe = Callable[[str, str, float], None]  # kind of call, outcome, seconds

FIRST_EVENT_KEPT_S = 3600.0
_FIRST_EVENTS = 10_000  # filters of which the first event is kept
_SOURCES = 1_000  # data sources of which the newest event is kept
_BOUNDARY_TIMEOUT_S = 3.0
# What Druid throws for a query that it cannot read or will not run, whatever the status it comes with.
_QUERY_FAULTS = re.compile(
    r"com\.fasterxml\.jackson\..*"
    r"|org\.apache\.druid\.query\.(BadJsonQuery|BadQueryContext|BadQuery|QueryUnsupported|ResourceLimitExceeded)Exception"
    r"|org\.apache\.druid\.java\.util\.common\.(IAE|UOE)"
    r"|java\.lang\.(IllegalArgument|UnsupportedOperation)Exception"
)


class DruidSettings(Protocol):
    """What of the configuration is read here; `config.druid` is one."""

    @property
    def endpoint(self) -> str: ...
    @property
    def connect_timeout_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def max_answer_mb(self) -> float: ...
    @property
    def newest_s(self) -> float: ...
    @property
    def ca_file(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...


@dataclass(frozen=True)
class DruidAnswer:
    """Rows of one query.

    rows: as Druid wrote them. uncovered: [(start_s, end_s)], asked time for which Druid holds no segment.
    """

    rows: list[Any]
    uncovered: tuple[tuple[int, int], ...]


class _Newest(NamedTuple):
    at_s: Optional[int]
    read_at: float  # monotonic, of the last try
    good_at: float  # monotonic, of the last success


class Druid:
    """A broker, asked over pooled connections; safe to use from many threads.

    observe: called after each call with its kind (`query`, `lead_in`, `boundary`, `sensors`, …), its outcome
        (`ok`, `refused`, `timeout`, `unreachable`, `failed`) and seconds.
    """

    def __init__(self, settings: DruidSettings, observe: Optional[Observe] = None) -> None:
        self._timeout_s = settings.timeout_s
        self._newest_s = settings.newest_s
        self._observe = observe
        self._transport = Transport(
            settings.endpoint,
            connect_timeout_s=settings.connect_timeout_s,
            max_answer_bytes=int(settings.max_answer_mb * (1 << 20)),
            ca_file=settings.ca_file,
            user=settings.user,
            password=settings.password,
        )
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._newest: OrderedDict[str, _Newest] = OrderedDict()
        self._refreshing: set[str] = set()
        # The time, None where there is no event, or why Druid did not say; and when that was.
        self._first: OrderedDict[str, tuple[Union[int, Exception, None], float]] = OrderedDict()

    def close(self) -> None:
        """Close the idle connections."""
        self._transport.close()

    def query(self, query: Mapping[str, Any], timeout_s: Optional[float] = None, kind: str = "query") -> DruidAnswer:
        """Ask; `query` is sent as it is but for its context (time-out capped, uncovered time asked for).

        Raises DruidRefused where the query is at fault, DruidTimeout, DruidUnreachable or DruidFailed.
        """
        timeout_s = min(timeout_s or self._timeout_s, self._timeout_s)
        began = time.perf_counter()
        outcome = "failed"
        try:
            body = orjson.dumps(with_context(query, timeout_s))
            # Druid's own time-out should be heard before ours ends the call.
            reply = self._transport.post(body, timeout_s + min(1.0, 0.1 * timeout_s))
            rows = _rows_of(reply)
            outcome = "ok"
            return DruidAnswer(rows, _uncovered_of(reply))
        except DruidError as error:
            outcome = _outcome_of(error)
            raise
        except DruidRefused:
            outcome = "refused"
            raise
        except TypeError as error:  # orjson: a query that is no JSON, only possible from our own code
            raise Unservable("the query cannot be written as JSON") from error
        finally:
            if self._observe is not None:
                self._observe(kind, outcome, time.perf_counter() - began)

    def newest(self, data_source: str) -> Optional[int]:
        """Unix seconds of the newest event of any sensor, None where it cannot be had.

        Kept `newest_s`, then refreshed in the background: only the first call for a data source waits, and the first
        after so long a rest that what is kept says nothing any more.
        """
        now = time.monotonic()
        with self._changed:
            known = self._newest.get(data_source)
            stale = known is None or now - known.read_at >= self._newest_s
            refresh = stale and data_source not in self._refreshing
            if refresh:
                self._refreshing.add(data_source)
            wait = known is None or self._must_wait(known, now)
        if refresh and wait:
            self._refresh_newest(data_source)
        elif refresh:
            threading.Thread(target=self._refresh_newest, args=(data_source,), daemon=True).start()
        with self._changed:
            if wait:  # somebody else's call may be under way
                self._changed.wait_for(lambda: self._newest.get(data_source) is not known, 2 * _BOUNDARY_TIMEOUT_S)
            known = self._newest.get(data_source)
        return None if known is None or self._too_old(known, now) else known.at_s

    def remembers_newest(self, data_source: str) -> bool:
        """Tell whether `newest` would answer at once."""
        with self._lock:
            known = self._newest.get(data_source)
            return known is not None and not self._must_wait(known, time.monotonic())

    def _must_wait(self, known: _Newest, now: float) -> bool:
        """Where the last try failed, the next one is not waited for: a broker that never says costs no answer."""
        return self._too_old(known, now) and known.good_at == known.read_at

    def _too_old(self, known: _Newest, now: float) -> bool:
        """Tell whether what was read says nothing any more of which buckets are complete."""
        return now - known.good_at > 10 * self._newest_s + _BOUNDARY_TIMEOUT_S

    def _refresh_newest(self, data_source: str) -> None:
        known = self._newest.get(data_source)
        now = time.monotonic()
        read = _Newest(known.at_s if known else None, now, known.good_at if known else -1e9)
        try:
            at_s = self._boundary(data_source, None, "maxTime")
            read = _Newest(at_s, now, now)
        except (DruidError, DruidRefused) as error:
            log.warning("the newest event of %s is not known: %s", data_source, error)
        finally:
            with self._changed:
                self._newest[data_source] = read
                self._newest.move_to_end(data_source)
                while len(self._newest) > _SOURCES:
                    self._newest.popitem(last=False)
                self._refreshing.discard(data_source)
                self._changed.notify_all()

    def first_event(self, data_source: str, filter: Filter = None) -> Optional[int]:
        """Unix seconds of the first event under a filter, None if there is none; kept an hour.

        Raises DruidError or DruidRefused where Druid does not say; that is kept as long as the newest event is.
        """
        key = f"{data_source}\n{canonical_text(canonical_filter(filter))}"
        with self._lock:
            known = self._first.get(key)
            # "No event" may end with the next one, so it is kept no longer than the newest is.
            if known is not None and time.monotonic() - known[1] < (
                FIRST_EVENT_KEPT_S if isinstance(known[0], int) else self._newest_s
            ):
                self._first.move_to_end(key)
                if isinstance(known[0], Exception):
                    raise type(known[0])(*known[0].args)
                return known[0]
        try:
            at_s = self._boundary(data_source, filter, "minTime")
        except (DruidError, DruidRefused) as error:
            self._keep_first(key, error)
            raise
        self._keep_first(key, at_s)
        return at_s

    def _keep_first(self, key: str, found: Union[int, Exception, None]) -> None:
        with self._lock:
            self._first[key] = (found, time.monotonic())
            self._first.move_to_end(key)
            while len(self._first) > _FIRST_EVENTS:
                self._first.popitem(last=False)

    def bounds(self, data_source: str, filter: Filter = None) -> Optional[tuple[int, int]]:
        """Unix seconds of the first and the newest event under a filter, asked now; None if there is none."""
        rows = self.query(time_boundary_query(data_source, filter), kind="boundary").rows
        if not rows:
            return None
        return _time_of(rows, "minTime"), _time_of(rows, "maxTime")

    def top_sensors(self, data_source: str, days: float, limit: int, now_s: Optional[int] = None) -> list[str]:
        """Names of the sensors with the most events in the last `days` before the newest event, most first."""
        if now_s is None:
            newest_s = self.newest(data_source)
            now_s = int(time.time()) if newest_s is None else newest_s + 60
        # Events without a sensor, and those with an empty name, take up to two of the places.
        query = top_sensors_query(data_source, int(now_s - days * DAY_S), now_s, limit + 2)
        rows = self.query(query, kind="sensors").rows
        found = [entry.get(SENSOR_DIMENSION) for row in rows for entry in row["result"]]
        return [name for name in found if isinstance(name, str) and name][:limit]

    def _boundary(self, data_source: str, filter: Filter, bound: str) -> Optional[int]:
        query = time_boundary_query(data_source, filter, bound)
        rows = self.query(query, timeout_s=min(_BOUNDARY_TIMEOUT_S, self._timeout_s), kind="boundary").rows
        return _time_of(rows, bound) if rows else None


def _time_of(rows: list[Any], bound: str) -> int:
    try:
        return parse_instant_ms(rows[0]["result"][bound]) // 1000
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DruidFailed("Druid's answer about its time bounds cannot be read") from error


def _outcome_of(error: DruidError) -> str:
    if isinstance(error, DruidTimeout):
        return "timeout"
    return "unreachable" if isinstance(error, DruidUnreachable) else "failed"


def _rows_of(reply: Reply) -> list[Any]:
    if reply.status != 200:
        raise _refusal(reply)
    try:
        rows = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        log.warning("Druid's answer of %d bytes is not JSON: %s", len(reply.body), error)
        raise DruidFailed("Druid's answer is not JSON, or was cut off") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DruidFailed("Druid's answer is not a list of rows")
    return rows


def _refusal(reply: Reply) -> Exception:
    try:
        told = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        told = None
    told = told if isinstance(told, dict) else {}
    kind = re.sub(r"[^\w.$]", "", str(told.get("errorClass") or ""))[:120]
    log.warning(
        "Druid answers %d %s: %s",
        reply.status,
        kind or "without an error class",
        str(told.get("errorMessage") or reply.body[:300])[:1000],
    )
    named = f" ({kind})" if kind else ""
    if reply.status == 504 or kind.endswith(("QueryTimeoutException", "QueryInterruptedException.TIMEOUT")):
        return DruidTimeout("Druid did not finish the query in time")
    if reply.status in (401, 403):
        return DruidFailed("Druid does not accept the configured credentials")
    if reply.status in (429, 503) or kind.endswith("QueryCapacityExceededException"):
        return DruidFailed(f"Druid is too busy{named}")
    if reply.status in (400, 501) or _QUERY_FAULTS.fullmatch(kind):
        return DruidRefused(f"Druid refuses the query{named}")
    if reply.status >= 500:
        return DruidFailed(f"Druid failed to answer the query{named}")
    return DruidFailed(f"Druid's endpoint answers with HTTP {reply.status}: is it a broker?")


def _uncovered_of(reply: Reply) -> tuple[tuple[int, int], ...]:
    text = reply.headers.get("X-Druid-Response-Context")
    if not text or "uncoveredIntervals" not in text:
        return ()
    try:
        intervals = parse_intervals(orjson.loads(text).get("uncoveredIntervals") or ["2000/2000"])
    except (orjson.JSONDecodeError, Unservable, AttributeError) as error:
        log.warning("Druid's response context cannot be read: %s", error)
        return ()
    return tuple((i.start_ms // 1000, -(-i.end_ms // 1000)) for i in intervals)
