"""What is counted and measured, for Prometheus, over all workers together; must not know who counts what when.

Worker processes write to one directory (prometheus-client's multiprocess mode), which whoever starts them names in
`$PROMETHEUS_MULTIPROC_DIR` before this module is imported; without it the figures are this process's own.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The figures of one process. Build one per process; the supervisor's and the workers' add up."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"outliers_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, mode: str, *labels: str) -> Gauge:
            return Gauge(f"outliers_{name}", text, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"outliers_{name}", text, labels, registry=registry, buckets=_SECONDS)

        self.requests = counter("requests", "Requests answered, by route and HTTP status.", "route", "status")
        self.request_seconds = histogram("request_seconds", "Time from reading a request to its answer.", "route")
        self.in_flight = gauge("requests_in_flight", "Requests being worked on now.", "livesum")
        self.errors = counter("errors", "Requests that ended in an error, by its class.", "error")
        self.answers = counter("answers", "Series judged, by what judged them.", "kind")
        self.fallbacks = counter("fallbacks", "Answers without the model that was asked for or expected.")
        self.points = counter("points", "Points judged, context included.")
        self.anomalies = counter("anomalies", "Points answered as anomalies.")
        self.stage_seconds = histogram("stage_seconds", "Time of each stage of an answer.", "stage")
        self.druid_seconds = histogram("druid_seconds", "Time of calls to Druid, by what was asked.", "call")
        self.druid_errors = counter(
            "druid_errors", "Calls to Druid that failed, by what was asked and why.", "call", "error"
        )
        self.uncovered = counter("druid_uncovered", "Answers of Druid with times for which it holds no data.")
        self.newest_age = gauge("druid_newest_age_seconds", "Age of the newest event when last asked.", "mostrecent")
        self.shared = counter("druid_shared", "Calls saved because an identical one was in flight.")
        self.cache = counter("answer_cache", "Look-ups in the short answer cache.", "outcome")
        self.history = counter("lead_in", "Lead-ins, by where they came from.", "outcome")
        self.models_loaded = gauge("models_loaded", "Models in memory.", "livesum")
        self.models_bytes = gauge("models_bytes", "Memory counted for loaded models.", "livesum")
        self.models_known = gauge("models_known", "Models that can be served.", "livemax")
        self.model_loads = counter("model_loads", "Models loaded from the mirror, by outcome.", "outcome")
        self.evictions = counter("model_evictions", "Models dropped from memory to make room.")
        self.store_refreshes = counter("store_refreshes", "Refreshes of the mirror, by outcome.", "outcome")
        self.store_seconds = histogram("store_refresh_seconds", "Time of a refresh of the mirror.")
        self.store_refreshed = gauge(
            "store_refreshed_timestamp_seconds", "When the mirror was last refreshed.", "livemax"
        )
        self.workers = gauge("workers", "Worker processes alive.", "livemax")
        self.worker_deaths = counter("worker_deaths", "Workers that died and were started again.")
        self.shed = counter("shed", "Requests turned away because too many were waiting.")

    def text(self) -> bytes:
        """Return Prometheus' text format, of all processes that share the directory."""
        directory = os.environ.get(DIRECTORY_VARIABLE)
        if not directory:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=directory)
        return generate_latest(together)


def forget_process(pid: int, directory: str) -> None:
    """Drop a dead process's gauges; what it counted stays counted."""
    mark_process_dead(pid, directory)
