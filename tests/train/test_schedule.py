"""When a name is due, and that each is enqueued once per slot: real Redis, real directory store."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from outliers.errors import ConfigError, QueueError
from outliers.store import new_version
from outliers.train import schedule
from outliers.train.queue import LEDGER, SLOT_KEY, TrainingQueue, key_of
from outliers.train.schedule import Scheduler, due, latest_slot, next_slot, slot_text
from tests.train.tasks import config_for

pytestmark = pytest.mark.trainer

NAMES = ("a", "b, with comma", "c/../d")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def test_latest_slot_is_the_newest_that_is_not_in_the_future():
    assert slot_text(latest_slot("0 3 * * *", at("2026-03-29T02:59:59"))) == "20260328T0300Z"
    assert slot_text(latest_slot("0 3 * * *", at("2026-03-29T03:00:00"))) == "20260329T0300Z"
    assert slot_text(latest_slot("*/15 * * * *", at("2026-03-29T03:14:59.9"))) == "20260329T0300Z"
    assert slot_text(latest_slot("30 2 * * mon", at("2026-11-24T00:00:00"))) == "20261123T0230Z"


def test_next_slot_is_after_now():
    assert slot_text(next_slot("* * * * *", at("2026-03-29T03:14:59"))) == "20260329T0315Z"
    assert slot_text(next_slot("* * * * *", at("2026-03-29T03:15:00"))) == "20260329T0316Z"


def test_cron_line_that_is_none_is_a_configuration_error():
    with pytest.raises(ConfigError, match="schedule_hour"):
        latest_slot("0 25 * * *", 0)


def test_due_leaves_alone_what_is_active_or_changed_recently():
    found = due(
        ["new", "active", "refused", "long ago", "rolled back", "new"],
        active_keys={key_of("active")},
        outcomes={"refused": {"ended_at_s": 950}, "long ago": {"ended_at_s": 800}},
        written_s={"rolled back": 980.0, "long ago": 790.0},
        now_s=1000,
        min_interval_s=100,
    )
    assert found == ["new", "long ago"]


@pytest.fixture
def scheduler(redis_server, tmp_path: Path) -> Scheduler:
    return make(redis_server.port, tmp_path)


def make(port: int, directory: Path, cron: str = "* * * * *") -> Scheduler:
    config = config_for(port)
    return Scheduler(
        replace(
            config,
            outliers=replace(config.outliers, target_sensors=NAMES[:2], model_names=NAMES[2:], schedule_hour=cron),
            store=replace(config.store, directory=str(directory)),
        )
    )


def names_queued(queue: TrainingQueue) -> list[str]:
    return sorted(job.name for job in queue.rq.get_jobs())


def test_each_name_is_enqueued_once_per_slot(scheduler):
    assert 0 < scheduler.tick() <= 60
    assert names_queued(scheduler.queue) == sorted(NAMES)
    scheduler.queue.connection.delete(SLOT_KEY)  # even if nobody remembers the slot
    scheduler.tick()
    assert names_queued(scheduler.queue) == sorted(NAMES)


def test_two_schedulers_at_once_enqueue_each_name_once(redis_server, tmp_path):
    schedulers = [make(redis_server.port, tmp_path) for _ in range(4)]
    for _ in range(3):
        threads = [threading.Thread(target=s.tick) for s in schedulers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert names_queued(schedulers[0].queue) == sorted(NAMES)


def test_job_that_is_already_gone_is_not_enqueued_again_for_its_slot(scheduler):
    slot = slot_text(latest_slot("* * * * *", scheduler.queue.now_s()))
    assert scheduler.queue.enqueue("a", slot) is not None
    scheduler.queue.rq.pop_job_id()
    assert scheduler.queue.enqueue("a", slot) is None


def test_downtime_of_many_slots_is_one_catch_up(scheduler):
    now_s = scheduler.queue.now_s()
    scheduler.queue.connection.set(SLOT_KEY, int(now_s - 3600))
    for _ in range(3):
        scheduler.tick()
    assert len(scheduler.queue.rq) == len(NAMES)
    assert int(scheduler.queue.connection.get(SLOT_KEY)) == latest_slot("* * * * *", scheduler.queue.now_s())


def test_pinned_name_is_skipped(scheduler):
    scheduler.store.pin("a")
    scheduler.tick()
    assert names_queued(scheduler.queue) == sorted(NAMES[1:])


def test_name_served_recently_is_left_alone_when_redis_lost_its_memory(scheduler):
    scheduler.store.publish("a", new_version(), b"model", None, expected=None)
    assert scheduler.queue.connection.hgetall(LEDGER) == {}
    scheduler.tick()
    assert names_queued(scheduler.queue) == sorted(NAMES[1:])


def test_queue_that_lost_its_memory_is_filled_again(scheduler):
    scheduler.tick()
    scheduler.queue.connection.flushall()
    scheduler.tick()
    assert names_queued(scheduler.queue) == sorted(NAMES)


def test_outcomes_of_names_long_gone_are_forgotten(scheduler):
    now_s = int(scheduler.queue.now_s())
    for name, age_s in (("gone", 61 * 86400), ("there", 86400)):
        outcome = {"kind": "published", "text": "published 1", "ended_at_s": now_s - age_s}
        scheduler.queue.connection.hset(LEDGER, name, json.dumps(outcome))
    scheduler.tick()
    assert set(scheduler.queue.last_outcomes()) == {"there"}


def test_redis_that_is_away_does_not_end_the_scheduler(scheduler, redis_server):
    redis_server.stop()
    assert scheduler.tick() <= 5
    redis_server.start()
    scheduler.tick()
    assert names_queued(scheduler.queue) == sorted(NAMES)


def test_druid_that_is_away_leaves_the_slot_to_be_gone_through_later(redis_server, tmp_path):
    scheduler = make(redis_server.port, tmp_path)
    outliers = replace(scheduler.config.outliers, target_sensors=())
    druid = replace(scheduler.config.druid, endpoint="http://127.0.0.1:9/druid/v2/")
    scheduler = Scheduler(replace(scheduler.config, outliers=outliers, druid=druid))
    assert scheduler.tick() <= 5
    assert scheduler.queue.connection.get(SLOT_KEY) is None
    assert scheduler.queue.take("schedule", "another", 1), "the lock was not given back"


def test_one_look_says_what_went_wrong(redis_server, tmp_path):
    config = make(redis_server.port, tmp_path).config
    assert schedule.run_schedule(config, once=True) == 0
    redis_server.stop()
    with pytest.raises(QueueError, match="cannot be reached"):
        schedule.run_schedule(config, once=True)


def test_scheduler_that_died_while_it_enqueued_is_succeeded(scheduler, monkeypatch):
    monkeypatch.setattr(schedule, "LOCK_S", 1)
    assert scheduler.queue.take("schedule", "a node that died", 1)
    scheduler.tick()
    assert names_queued(scheduler.queue) == []
    time.sleep(1.1)
    scheduler.tick()
    assert names_queued(scheduler.queue) == sorted(NAMES)
