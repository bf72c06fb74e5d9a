"""What is asked of Druid while answering: identical calls share one, and what can run at the same time does.

It must not know what the rows are for.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple, Optional

from outliers.config import Config
from outliers.druid.client import Druid, DruidAnswer
from outliers.druid.query import canonical_text, data_source_of, data_sources_of
from outliers.errors import DruidTimeout, OutliersError, Overloaded

WARM_S = 3000.0  # less than the client remembers a first event
WARM_KEYS = 10_000
WORTH_ASKING = 0.2  # of the time that a question had: with less left, a call that failed another is not tried again


class Times(NamedTuple):
    """What Druid knows of time.

    newest_s: of the newest event of any sensor, None = unknown. first_known: Druid said when the first event under the
    query's own filter was. first_s: that time, None = there is no event at all. empty_source: the data source, where
    it holds no event of any filter.
    """

    newest_s: Optional[float] = None
    first_known: bool = False
    first_s: Optional[float] = None
    empty_source: Optional[str] = None


class Fetcher:
    """Asks Druid for many threads at once; at most `concurrent_queries` calls at a time."""

    def __init__(self, druid: Druid, config: Config, shared: Callable[[], None] = lambda: None) -> None:
        self._druid, self._shared = druid, shared
        at_once = config.limits.concurrent_queries
        self._room = threading.BoundedSemaphore(at_once)
        self._pool = ThreadPoolExecutor(2 * at_once, thread_name_prefix="druid")
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[DruidAnswer]] = {}
        self._warm: OrderedDict[str, float] = OrderedDict()

    def query(self, query: Mapping[str, Any], timeout_s: float, kind: str = "query") -> DruidAnswer:
        """Run a query; who asks the same while it is under way gets the same answer. Rows must not be changed."""
        key = canonical_text(query)
        until_s = time.monotonic() + timeout_s
        while True:
            with self._lock:
                under_way = self._in_flight.get(key)
                if under_way is None:
                    future = self._in_flight[key] = Future()
                    break
            self._shared()
            try:
                return under_way.result(max(until_s - time.monotonic(), 0.0))
            except FutureTimeout as exc:
                raise DruidTimeout("Druid did not answer in time") from exc
            except (DruidTimeout, Overloaded):  # whoever asked had less time than there is here
                if until_s - time.monotonic() < WORTH_ASKING * timeout_s:
                    raise
        try:
            answer = self._in_turn(query, max(until_s - time.monotonic(), 0.001), kind)
        except BaseException as error:
            with self._lock:
                del self._in_flight[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._in_flight[key]
        future.set_result(answer)
        return answer

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        """Do something beside the caller's own work."""
        return self._pool.submit(work)

    def start_times(self, query: Mapping[str, Any]) -> Callable[[float], Times]:
        """Begin to find the query's Times; the result is called with the longest wait and returns them.

        Another thread is used only where Druid must be asked: mostly the client remembers.
        """
        key = canonical_text([query.get("dataSource"), query.get("filter")])
        with self._lock:
            warm = time.monotonic() - self._warm.get(key, -WARM_S) < WARM_S
        if warm and self.remembers_newest(query):
            return lambda _: self._times(query)
        future = self.start(lambda: self._times(query))

        def wait(most_s: float) -> Times:
            try:
                times: Times = future.result(max(most_s, 0.0))
            except FutureTimeout:
                return Times()
            if times.first_known:
                self._remember_warm(key)
            return times

        return wait

    def newest_s(self, query: Mapping[str, Any]) -> Optional[float]:
        """Return the time of the newest event of the query's data sources, whichever sensor's; None where unknown."""
        known = [self._druid.newest(source) for source in dict.fromkeys(data_sources_of(query))]
        return max((at_s for at_s in known if at_s is not None), default=None)

    def remembers_newest(self, query: Mapping[str, Any]) -> bool:
        """Tell whether `newest_s` of this query would be answered at once."""
        return all(self._druid.remembers_newest(source) for source in data_sources_of(query))

    def close(self) -> None:
        self._pool.shutdown(wait=False)
        self._druid.close()

    def _times(self, query: Mapping[str, Any]) -> Times:
        source = data_source_of(query)
        newest_s = self.newest_s(query)
        if source is None or query.get("virtualColumns"):
            return Times(newest_s)  # no time boundary can be asked for those
        try:
            first_s = self._druid.first_event(source, query.get("filter"))
            empty = newest_s is None and first_s is None and self._druid.first_event(source) is None
            return Times(newest_s, True, first_s, source if empty else None)
        except OutliersError:  # the client has logged it; without it nothing is taken for not there yet
            return Times(newest_s)

    def _in_turn(self, query: Mapping[str, Any], timeout_s: float, kind: str) -> DruidAnswer:
        until_s = time.monotonic() + timeout_s
        if not self._room.acquire(timeout=timeout_s):
            raise Overloaded("Too many queries are waiting for Druid; try again in a moment.")
        try:
            return self._druid.query(query, max(until_s - time.monotonic(), 0.001), kind)
        finally:
            self._room.release()

    def _remember_warm(self, key: str) -> None:
        with self._lock:
            self._warm[key] = time.monotonic()
            self._warm.move_to_end(key)
            while len(self._warm) > WARM_KEYS:
                self._warm.popitem(last=False)
