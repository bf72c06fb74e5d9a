"""What Prometheus sees of training: read from Redis when it asks, so that any node's answer is the whole cluster's.

It must not know how the figures came about. Jobs run in processes of their own that end with the job; what they
found is in the ledger, in Redis, and nothing has to be collected from processes or nodes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from rq import worker_registration

from outliers.errors import QueueError
from outliers.train.outcome import KINDS
from outliers.train.queue import SLOT_KEY, TrainingQueue, redis_errors

logger = logging.getLogger(__name__)


class TrainingCollector(Collector):
    """One look at Redis per scrape; with Redis away, only `outliers_training_redis_up 0`."""

    def __init__(self, queue: TrainingQueue) -> None:
        self.queue = queue

    def collect(self) -> Iterator[Metric]:
        try:
            families = [*self._of_queue(), *self._of_models()]
            up = 1
        except QueueError as error:
            logger.warning("no figures of training: %s", error)
            families, up = [], 0
        yield _gauge("redis_up", "Whether Redis answers.", up)
        yield from families

    def _of_queue(self) -> Iterator[Metric]:
        rq = self.queue.rq
        with redis_errors():
            states = {
                "waiting": rq.count,
                "running": rq.started_job_registry.get_job_count(cleanup=False),
                "to_be_tried_again": rq.scheduled_job_registry.get_job_count(cleanup=False),
                "failed": rq.failed_job_registry.get_job_count(cleanup=False),
            }
            keys = worker_registration.get_keys(rq)  # those of dead workers too, until a living one removes them
            workers = self.queue.connection.exists(*keys) if keys else 0
            slot_s = float(self.queue.connection.get(SLOT_KEY) or 0)
        jobs = GaugeMetricFamily("outliers_training_jobs", "Training jobs, by state.", labels=["state"])
        for state, count in states.items():
            jobs.add_metric([state], count)
        yield jobs
        yield _gauge("workers", "Workers that beat in the last minutes.", workers)
        yield _gauge("slot_timestamp_seconds", "The last slot of the cron line that was gone through.", slot_s)
        counts = self.queue.outcome_counts()
        outcomes = CounterMetricFamily("outliers_training_outcomes", "Jobs that ended, by outcome.", labels=["outcome"])
        for kind in KINDS:
            outcomes.add_metric([kind], counts.get(kind, 0))
        yield outcomes

    def _of_models(self) -> Iterator[Metric]:
        outcomes = self.queue.last_outcomes()
        ended = _family("last_outcome_timestamp_seconds", "When a model's last job ended, by outcome.", "outcome")
        seconds = _family("last_seconds", "Time of each step of a model's last job.", "step")
        points = _family("last_points", "Points that a model's last job had.", "granularity")
        thresholds = _family("last_threshold", "Line of a model's last job, in its own sigmas.", "granularity")
        figures = _family("last_figure", "Epochs, losses and errors of a model's last job.", "figure")
        for name, outcome in outcomes.items():
            found = outcome.get("figures", {})
            ended.add_metric([name, str(outcome["kind"])], outcome["ended_at_s"])
            _add(seconds, name, found.get("seconds", {}))
            _add(points, name, found.get("points", {}))
            _add(thresholds, name, found.get("threshold", {}))
            _add(figures, name, {key: value for key, value in found.items() if not isinstance(value, Mapping)})
        yield from (ended, seconds, points, thresholds, figures)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"outliers_training_{name}", text, value=value)


def _family(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"outliers_training_{name}", text, labels=["model", label])


def _add(family: GaugeMetricFamily, name: str, values: Mapping[str, Any]) -> None:
    for label, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            family.add_metric([name, label], value)


def _registry(queue: TrainingQueue) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TrainingCollector(queue))
    return registry


def text(queue: TrainingQueue) -> bytes:
    """Return Prometheus' text format."""
    return generate_latest(_registry(queue))


def serve(queue: TrainingQueue, address: str, port: int) -> int | None:
    """Answer GET /metrics in a thread; return the port, or None where it cannot be had: no reason to stop."""
    try:
        server, _ = start_http_server(port, address, _registry(queue))
    except OSError as error:
        logger.warning("no metrics: port %d of %s cannot be had (%s)", port, address, error.strerror)
        return None
    return int(server.server_port)
