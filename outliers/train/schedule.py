"""When a model is due and its job is enqueued: cron slots in UTC, once per name and slot however many nodes look.

It must not know what a job does, and imports no torch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from croniter import croniter

from outliers.config import Config
from outliers.druid.client import Druid
from outliers.druid.traffic import FLOW_SOURCE
from outliers.errors import ConfigError, OutliersError
from outliers.store import key_of as store_key
from outliers.store import open_store
from outliers.train import metrics
from outliers.train.queue import SLOT_KEY, TrainingQueue, key_of, redis_errors

logger = logging.getLogger(__name__)

LOCK_S = 120  # a node that dies while it enqueues holds the others up for so long
LOOK_S = 15  # longest sleep: a Redis that lost its memory is noticed this soon
FORGOTTEN_S = 60 * 86400  # a name without an outcome for so long leaves the ledger, and the metrics
DISCOVERED_S = 600  # how long a list of discovered sensors is good for


def latest_slot(cron: str, now_s: float) -> int:
    """Return the newest slot of a five-field cron line, in UTC, that is not after `now_s`; Unix seconds."""
    after = datetime.fromtimestamp(int(now_s) + 1, timezone.utc)
    return int(_iterator(cron, after).get_prev(datetime).timestamp())


def next_slot(cron: str, now_s: float) -> int:
    return int(_iterator(cron, datetime.fromtimestamp(int(now_s), timezone.utc)).get_next(datetime).timestamp())


def _iterator(cron: str, start: datetime) -> croniter:
    try:
        return croniter(cron, start)
    except ValueError as exc:
        raise ConfigError(f"[Outliers] schedule_hour = {cron} is no cron line: {exc}") from exc


def slot_text(slot_s: int) -> str:
    return datetime.fromtimestamp(slot_s, timezone.utc).strftime("%Y%m%dT%H%MZ")


def due(
    names: Iterable[str],
    *,
    active_keys: set[str],
    outcomes: Mapping[str, Mapping[str, Any]],
    written_s: Mapping[str, float],
    now_s: float,
    min_interval_s: float,
) -> list[str]:
    """Return the names to train now: no job of theirs waits or runs, and their last change is long enough ago.

    outcomes: the ledger, `ended_at_s` of each name's last outcome of any kind; gone if Redis lost its memory.
    written_s: when what serves a name was written (a publication or a rollback), Unix seconds.
    """
    found = []
    for name in dict.fromkeys(names):
        last_s = max(float(outcomes.get(name, {}).get("ended_at_s", 0)), written_s.get(name, 0.0))
        if key_of(name) not in active_keys and now_s - last_s >= min_interval_s:
            found.append(name)
    return found


def names_of(config: Config, druid: Druid | None = None) -> list[str]:
    """Return the names that are to have a model: sensors, configured or discovered in Druid, then further models."""
    sensors = list(config.outliers.target_sensors)
    if not sensors:
        asked = druid or Druid(config.druid)
        sensors = asked.top_sensors(FLOW_SOURCE, config.training.discover_days, config.training.max_sensors)
    return list(dict.fromkeys([*sensors, *config.outliers.model_names]))


class Scheduler:
    """Goes through slots; one that could not be gone through is gone through again, until the next one comes."""

    def __init__(self, config: Config, queue: TrainingQueue | None = None) -> None:
        self.config = config
        self.queue = queue or TrainingQueue(config)
        self.druid = Druid(config.druid)
        self.store = open_store(config)
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self._known: tuple[float, list[str]] = (float("-inf"), [])
        _iterator(config.outliers.schedule_hour, datetime.now(timezone.utc))

    def tick(self) -> float:
        """Look, whatever goes wrong; return the seconds to sleep."""
        try:
            return self.look()
        except OutliersError as error:
            logger.warning("the slot waits: %s", error)
        except Exception:  # the next look may go well; a scheduler that ends helps nobody
            logger.exception("the slot waits")
        return 5.0

    def look(self) -> float:
        """Enqueue what is due if a slot has come that nobody went through; return the seconds to the next look.

        The slot that counts is the newest one, so that after a downtime of any length there is one catch-up.
        Raises QueueError, DruidError, StoreError: then the slot is gone through at the next look.
        """
        cron = self.config.outliers.schedule_hour
        now_s = self.queue.now_s()
        slot_s = latest_slot(cron, now_s)
        if self._gone_through_s() < slot_s:
            self._go_through(slot_s)
        return min(max(next_slot(cron, now_s) - now_s, 0.2), LOOK_S)

    def _gone_through_s(self) -> int:
        with redis_errors():
            return int(self.queue.connection.get(SLOT_KEY) or 0)

    def _go_through(self, slot_s: int) -> None:
        if not self.queue.take("schedule", self._holder, LOCK_S):
            return  # another node does it; looked at again soon
        try:
            if self._gone_through_s() >= slot_s:
                return
            names = self.names()
            enqueued = [name for name in self._due(names) if self.queue.enqueue(name, slot_text(slot_s))]
            with redis_errors():
                self.queue.connection.set(SLOT_KEY, slot_s)
            remembered_s = max(FORGOTTEN_S, 2 * self.config.training.min_interval_s)
            self.queue.forget_outcomes(self.queue.now_s() - remembered_s)
            logger.info("slot %s: %d names, %d enqueued", slot_text(slot_s), len(names), len(enqueued))
        finally:
            self.queue.release("schedule", self._holder)

    def names(self) -> list[str]:
        """Return names_of() the configuration; what Druid said a short while ago is good enough."""
        found_s, names = self._known
        if time.monotonic() - found_s > DISCOVERED_S or not names:
            names = names_of(self.config, self.druid)
            self._known = (time.monotonic(), names)
        return names

    def _due(self, names: list[str]) -> list[str]:
        served, pins = self.store.latest(), self.store.pins()
        return due(
            [name for name in names if store_key(name) not in pins],
            active_keys=self.queue.active_keys(),
            outcomes=self.queue.last_outcomes(),
            written_s={name: served[store_key(name)].modified for name in names if store_key(name) in served},
            now_s=self.queue.now_s(),
            min_interval_s=self.config.training.min_interval_s,
        )


def add_arguments(parser: Any) -> None:
    parser.add_argument("--once", action="store_true", help="go through the newest slot, then exit")


def run_schedule(config: Config, *, once: bool = False) -> int:
    """Enqueue what is due at every slot until told to stop (SIGTERM, SIGINT)."""
    scheduler = Scheduler(config)
    if once:
        scheduler.look()
        return 0
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    if config.training.metrics_port:
        metrics.serve(scheduler.queue, config.training.metrics_address, config.training.metrics_port)
    while not stop.is_set():
        stop.wait(scheduler.tick())
    return 0
