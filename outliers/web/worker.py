"""One worker process: builds what the routes need and serves on the shared socket; must not know of its siblings.

Started by the supervisor in a fresh interpreter. It ends when told to (SIGTERM) or when the supervisor is gone.
"""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from typing import Any

from outliers import log
from outliers.config import Config
from outliers.infer.cache import Models, Watcher
from outliers.store.mirror import last_report
from outliers.web.answer import Answer
from outliers.web.app import Parts, create_app
from outliers.web.calculate import Told, calculate, open_context
from outliers.web.gather import Gathered
from outliers.web.metrics import Metrics
from outliers.web.serving import Server

MIRRORED = "mirrored"  # made by the supervisor in the run directory once the store has been looked at, or given up on
LOOK_S = 1.0  # how often the mirror is looked at
# Before garbage is looked for: a request makes two objects a row that are gone with it, and no cycles.
YOUNG_OBJECTS = 5_000  # with 50,000 a worker grew by 5 MB
FIRST_LOOK_S = 0.02  # the same until it is there


def work(config: Config, listening: socket.socket, run_directory: str) -> None:
    """Serve until told to end; returns when all that was begun is answered."""
    log.set_up(config.log.file, secrets=config.secrets())
    metrics = Metrics()
    told = _Counts(metrics)
    models = Models(config.store.mirror, config.limits.models_mb, told)
    context = open_context(config, models, told)
    missing = _Missing(config.store.mirror, run_directory)
    parts = Parts(
        calculate=lambda request, must_exist, deadline_s: calculate(request, context, must_exist, deadline_s),
        models=lambda: describe_models(models, config.detection.alarms_per_day),
        missing=missing,
        turned_away=lambda: server.turned_away(),
        metrics=metrics,
    )
    app = create_app(config, parts)
    server = Server(app, listening, config.server.threads, config.limits.body_kb * 1024, config.limits.queue)
    signal.signal(signal.SIGTERM, server.end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor too, which then tells us
    stop = threading.Event()
    threading.Thread(target=_keep_up, args=(models, missing, stop), name="models", daemon=True).start()
    threading.Thread(target=_end_with_parent, args=(server,), name="lifeline", daemon=True).start()
    gc.collect()
    gc.freeze()  # what was imported is never garbage: it need not be looked at again
    gc.set_threshold(YOUNG_OBJECTS)
    server.run(config.server.request_timeout_s)
    stop.set()
    context.source.fetcher.close()


def describe_models(models: Models, alarms_per_day: float) -> list[dict[str, Any]]:
    """Describe what is served, for `GET /api/v1/models`."""
    now_s = time.time()
    return [
        {
            "name": meta.name,
            "version": meta.version,
            "age_s": max(0.0, round(now_s - published_s, 1)),
            "kind": "autoencoder",
            "data_source": meta.data_source,
            "filter": meta.filter,
            "metrics": meta.metrics,
            "granularities": list(meta.granularities),
            "threshold": {
                granularity: {mode: line.k(alarms_per_day) for mode, line in by_mode.items()}
                for granularity, by_mode in meta.lines.items()
            },
            "trained_from": meta.trained_from,
            "trained_to": meta.trained_to,
        }
        for meta, published_s in models.metas()
    ]


class _Missing:
    """What is not ready: the mirror is seen once the supervisor has tried, or where an earlier run has filled it."""

    def __init__(self, mirror: str, run_directory: str) -> None:
        self._mirror, self._marker = mirror, os.path.join(run_directory, MIRRORED)
        self.looked = False

    def mirror_seen(self) -> bool:
        return os.path.exists(self._marker) or last_report(self._mirror) is not None

    def __call__(self) -> str:
        return "" if self.looked else "The models have not been looked for yet."


class _Counts(Told, Watcher):
    """Puts what happens into the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def gathered(self, gathered: Gathered, seconds: float) -> None:
        self._m.stage_seconds.labels("gather").observe(seconds)
        self._m.history.labels(gathered.lead_in_outcome).inc()
        if gathered.times.newest_s is not None:
            self._m.newest_age.set(time.time() - gathered.times.newest_s)
        if gathered.unloaded.any():
            self._m.uncovered.inc()

    def answered(self, answer: Answer, points: int, seconds: float) -> None:
        self._m.stage_seconds.labels("judge").observe(seconds)
        self._m.answers.labels(answer.model.kind).inc()
        if answer.model.fallback:
            self._m.fallbacks.inc()
        self._m.points.inc(points)
        self._m.anomalies.inc(int(answer.rows.flag.sum()))

    def cache(self, outcome: str) -> None:
        self._m.cache.labels(outcome).inc()

    def druid_call(self, kind: str, outcome: str, seconds: float) -> None:
        self._m.druid_seconds.labels(kind).observe(seconds)
        if outcome != "ok":
            self._m.druid_errors.labels(kind, outcome).inc()

    def druid_shared(self) -> None:
        self._m.shared.inc()

    def loaded(self, outcome: str) -> None:
        self._m.model_loads.labels(outcome).inc()

    def evicted(self) -> None:
        self._m.evictions.inc()

    def state(self, known: int, loaded: int, memory_bytes: int) -> None:
        self._m.models_known.set(known)
        self._m.models_loaded.set(loaded)
        self._m.models_bytes.set(memory_bytes)


def _keep_up(models: Models, missing: _Missing, stop: threading.Event) -> None:
    while not missing.mirror_seen():
        if stop.wait(FIRST_LOOK_S):
            return
    models.look()
    missing.looked = True
    models.prepare()
    models.run(stop, LOOK_S)


def _end_with_parent(server: Server) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        server.end()
