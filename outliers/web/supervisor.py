"""The process that `serve` is: holds the listening socket, keeps workers alive, mirrors the store; answers nothing.

One socket, opened before the workers and inherited by each: when one dies or is restarted, connections that wait in the
socket's queue are taken by the others. With SO_REUSEPORT each would have a queue of its own, lost with it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from outliers.config import Config
from outliers.errors import ConfigError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from outliers.web.metrics import Metrics

SHORT_LIFE_S = 10.0  # a worker that dies sooner is started again more and more slowly
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
GRACE_S = 5.0  # beyond the time that a request may take
# Set for the workers: one thread per request is the parallelism; freed memory is kept for the next request up to 16 MB
# (a tenth of an answer's time went into taking it back from the system), and above goes back to the system.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**20),
}
_log = logging.getLogger(__name__)


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; returns 0 when all that was begun is answered.

    Raises ConfigError where the address cannot be listened on.
    """
    from outliers.web.serving import listen

    try:
        listening = listen(config.server.address, config.server.port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {config.server.address}:{config.server.port}: {error.strerror}") from error
    with contextlib.closing(listening):
        address, port = listening.getsockname()[:2]
        _log.info("listening on %s:%s with %d workers", address, port, config.server.workers)
        return Supervisor(config, listening).run()


def _work(config: Config, listening: socket.socket, run_directory: str) -> None:
    """What a worker process runs; imported there, so that this process stays small."""
    from outliers.web.worker import work

    work(config, listening, run_directory)


@dataclass
class _Place:
    """A worker's place: who is in it, and when the next one may be started."""

    number: int
    process: Optional[SpawnProcess] = None
    started_at: float = 0.0
    delay_s: float = 0.0
    start_at: float = field(default=0.0)


class Supervisor:
    """Workers on one socket. `run` may be called once, in the main thread."""

    def __init__(self, config: Config, listening: socket.socket) -> None:
        self._config, self._listening = config, listening
        self._context = multiprocessing.get_context("spawn")
        self._places = [_Place(number) for number in range(config.server.workers)]
        self._ends = threading.Event()
        self._signals = 0
        self._directory = ""
        self._metrics: Optional[Metrics] = None

    def run(self) -> int:
        """Start the workers, keep them alive until a signal, then let them finish."""
        self._directory = tempfile.mkdtemp(prefix="rb-aioutliers-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._directory
        for name, value in WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        wake, woken = socket.socketpair()
        wake.setblocking(False)
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        try:
            self._start_due()
            threads = [threading.Thread(target=self._mirror, name="mirror", daemon=True)]
            if self._config.consul.enabled:
                threads.append(threading.Thread(target=self._consul, name="consul", daemon=True))
            for thread in threads:
                thread.start()
            while not self._ends.is_set():
                self._turn(woken)
            self._end(threads)
            return 0
        finally:
            self._kill()
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            wake.close()
            woken.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _on_signal(self, number: int, _: object) -> None:
        self._ends.set()
        self._signals += 1
        if self._signals > 1:
            self._kill()  # whoever asks twice does not want to wait

    # --- workers --------------------------------------------------------------------------------------------------

    def _turn(self, woken: socket.socket) -> None:
        """Wait for a death, a signal or the time of the next start, and do what follows from it."""
        sentinels = {p.process.sentinel: p for p in self._places if p.process is not None}
        due_s = min((p.start_at for p in self._places if p.process is None), default=None)
        timeout_s = None if due_s is None else max(due_s - time.monotonic(), 0.0)
        waited: list[Any] = [*sentinels, woken]
        for ready in multiprocessing.connection.wait(waited, timeout_s):
            if ready is woken:
                woken.recv(64)
            else:
                self._bury(sentinels[ready])  # type: ignore[index]
        if not self._ends.is_set():
            self._start_due()

    def _start_due(self) -> None:
        for place in self._places:
            if place.process is None and place.start_at <= time.monotonic():
                place.started_at = time.monotonic()
                place.process = self._context.Process(
                    target=_work,
                    args=(self._config, self._listening, self._directory),
                    name=f"worker-{place.number}",
                )
                place.process.start()
        self._tell_workers()

    def _bury(self, place: _Place) -> None:
        process = place.process
        assert process is not None
        process.join()
        short = time.monotonic() - place.started_at < SHORT_LIFE_S
        place.delay_s = min(max(2 * place.delay_s, FIRST_DELAY_S), LONGEST_DELAY_S) if short else 0.0
        place.start_at = time.monotonic() + place.delay_s
        place.process = None
        _log.error(
            "worker %d (pid %s) died with exit code %s; the next one starts in %.1f s",
            place.number, process.pid, process.exitcode, place.delay_s,
        )  # fmt: skip
        if self._metrics is not None and process.pid is not None:
            from outliers.web.metrics import forget_process

            self._metrics.worker_deaths.inc()
            forget_process(process.pid, self._directory)
        process.close()

    def _tell_workers(self) -> None:
        if self._metrics is not None:
            self._metrics.workers.set(sum(place.process is not None for place in self._places))

    def _end(self, threads: list[threading.Thread]) -> None:
        """Let nobody else in, and wait for what was begun."""
        from outliers.web.serving import freeze

        _log.info("ending: finishing what was begun")
        for thread in threads:
            if thread.name == "consul":
                thread.join(GRACE_S)  # out of Consul first, while whoever was sent here is still answered
        freeze(self._listening)
        alive = [place.process for place in self._places if place.process is not None]
        for process in alive:
            process.terminate()
        self._listening.close()
        until = time.monotonic() + self._config.server.request_timeout_s + GRACE_S
        for process in alive:
            process.join(max(until - time.monotonic(), 0.0))
        _log.info("ended")

    def _kill(self) -> None:
        for place in self._places:
            if place.process is not None and place.process.pid is not None:
                with contextlib.suppress(ValueError):
                    place.process.kill()

    # --- beside the workers ---------------------------------------------------------------------------------------

    def _mirror(self) -> None:
        """Keep this node's copy of the store; no other process asks the store for anything."""
        from outliers.infer.cache import read_meta
        from outliers.store import Mirror, open_store
        from outliers.web.metrics import Metrics

        self._metrics = Metrics()
        self._tell_workers()
        store, settings = open_store(self._config), self._config.store
        mirror = Mirror(store, settings.mirror, self._config.limits.model_mb, check=read_meta)
        failing = False
        while not self._ends.is_set():
            try:
                report = mirror.refresh()
            except Exception:  # noqa: BLE001 - a mirror that ends would never see a new model again
                _log.exception("the models are not brought up to date")
                self._metrics.store_refreshes.labels("failed").inc()
                self._ends.wait(settings.refresh_s)
                continue
            with open(os.path.join(self._directory, "mirrored"), "w", encoding="utf-8"):
                pass
            self._metrics.store_seconds.observe(report.seconds)
            self._metrics.store_refreshes.labels("failed" if report.error else "ok").inc()
            if report.error and not failing:
                _log.warning("the models are not brought up to date: %s", report.error)
            elif not report.error:
                self._metrics.store_refreshed.set(report.finished_at)
            failing = bool(report.error)
            if report.fetched or report.removed:
                _log.info("models: %d, %d fetched, %d removed", report.models, report.fetched, report.removed)
            for key, reason in report.failed.items():
                _log.error("model not taken over: %s", reason, extra={"model": key})
            self._ends.wait(settings.refresh_s)

    def _consul(self) -> None:
        """Be in Consul while this process runs."""
        from outliers.web.consul import ConsulAgent

        ConsulAgent(self._config).keep_registered(self._ends)
