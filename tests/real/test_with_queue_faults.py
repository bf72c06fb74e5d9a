"""A Redis that restarts under a running training job: the job has one outcome, and the worker lives on."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

from tests.real.conftest import FaultTable, Trained, ours
from tests.real.servers.fleet import Place
from tests.real.servers.process import wait_until
from tests.real.servers.redis_server import RedisServer
from tests.real.system import System

SENSOR = "quiet-lab"


def job_of(system: System) -> dict[str, Any]:
    code, text = system.run("jobs", "show", SENSOR, "--json")
    return dict(json.loads(text)) if code == 0 else {}


def test_a_redis_that_restarts_under_a_job_loses_nothing(
    redis: Place, trained: Trained, system: System, faults: FaultTable
) -> None:
    server = ours(redis, RedisServer)
    first = trained.jobs[SENSOR]
    mine = System(system.folder / "redis", system.sections)
    mine.configure({"Outliers": {"target_sensors": SENSOR}, "Training": {"min_interval_s": 0}})
    code, text = mine.run("models", "delete", SENSOR, "--yes")  # so that whatever is learned is published
    assert code == 0, text
    worker = mine.start("work")
    try:
        scheduler = mine.start("schedule")
        wait_until(lambda: job_of(mine)["id"] != first["id"], 90, "a new job", [worker], every_s=0.5)
        scheduler.close()
        wait_until(lambda: job_of(mine)["state"] == "running", 60, "a running job", [worker], every_s=0.2)
        server.kill()
        time.sleep(2)
        code, told = mine.run("jobs", "list")
        assert code == 1 and "Redis cannot be reached" in told
        server.start()
        begin = time.monotonic()
        wait_until(lambda: bool(job_of(mine).get("ended_at")), 120, "the outcome", [worker], every_s=1)
        job = job_of(mine)
        assert job["outcome"].startswith("published "), job
        faults.add("Redis restarted under a running job", told.strip().splitlines()[-1], time.monotonic() - begin)
        code, text = mine.run("models", "show", SENSOR, "--json")
        shown = json.loads(text)
        assert shown["served"]["version"] == job["outcome"].split()[1].rstrip(":")
        assert len(shown["versions"]) == 1  # published once
        worker.signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        mine.close()
