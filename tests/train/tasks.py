"""Jobs that end in the ways that a real one can, and a worker that does not load torch for them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

from rq import get_current_job

from outliers.config import Config, load_config
from outliers.store import open_store
from outliers.train.outcome import Outcome
from outliers.train.task import current


def end_well(name: str) -> str:
    return _finish("published", "1")


def note_and_end(name: str, seconds: float, log: str) -> str:
    """Run for so long, telling progress as a fit does; each begin and end is a line in `log`."""
    running = current()
    _note(log, f"begin {os.getppid()}")
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        running.progress({"step": "fit"})
        time.sleep(0.1)
    running.require_lease()
    _note(log, f"publish {os.getppid()}")
    return _finish("published", "1")


def crash(name: str, log: str) -> None:
    _note(log, "begin")
    os.kill(os.getpid(), signal.SIGSEGV)


def _finish(kind: str, version: str) -> str:
    outcome = Outcome(kind, version)
    job = get_current_job()
    assert job is not None
    job.meta["outcome"] = outcome.as_dict()
    return str(outcome)


def _note(log: str, line: str) -> None:
    with open(log, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def config_for(port: int, **training: object) -> Config:
    config = Config()
    return replace(config, redis=replace(config.redis, port=port), training=replace(config.training, **training))  # type: ignore[arg-type]


def main() -> None:
    """Work as the verb does, with times made short; argv: a Redis port or a configuration file, and --burst."""
    from outliers.log import set_up
    from outliers.train import queue, worker

    set_up()
    worker.BEAT_S, worker.LEASE_S, worker.MAINTENANCE_S, worker.GRACE_S, worker.REDIS_PAUSE_S = 1, 4, 1, 3, 1
    queue.BACKOFF_S = (2,)
    if sys.argv[1].endswith(".ini"):
        config = load_config(sys.argv[1], {})
    else:
        config = config_for(int(sys.argv[1]))
        worker.preload = open_store  # torch is not what these jobs are about
    sys.exit(worker.run_work(config, burst="--burst" in sys.argv))


if __name__ == "__main__":
    main()
