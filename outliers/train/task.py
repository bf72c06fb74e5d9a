"""What the queue runs: one try of one training job, in a work-horse, under the worker's lease on it.

It must not know how workers live and die (worker.py), nor the steps of a job (job.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import redis
from rq import Retry
from rq.executions import Execution
from rq.timeouts import JobTimeoutException

from outliers.config import Config
from outliers.errors import OutliersError, QueueError
from outliers.log import about
from outliers.store import Store
from outliers.train.outcome import may_pass
from outliers.train.queue import TrainingJob, each_try_s

logger = logging.getLogger(__name__)

_running: ContextVar[Running] = ContextVar("outliers_running")


class LeaseLost(QueueError):
    """Another worker may have taken this job over: stop, publish nothing, write nothing."""


class Running:
    """The execution under way in this process: its configuration, its job, and whether it still holds its lease."""

    def __init__(self, config: Config, store: Store, job: TrainingJob, execution: Execution, lease_s: float) -> None:
        self.config = config
        self.store = store
        self.job = job
        self.execution = execution
        self._lease_s = lease_s
        self._seen_s = self._told_s = time.monotonic()

    def progress(self, facts: Mapping[str, Any]) -> None:
        """Write how far the job is into its meta, at most once a second; raise LeaseLost when it is no longer ours."""
        before = {} if "step" in facts else self.job.meta.get("progress", {})
        self.job.meta["progress"] = {**before, **facts}
        if time.monotonic() - self._told_s < 1.0:
            return
        self._told_s = time.monotonic()
        try:
            self.save_meta()
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            if time.monotonic() - self._seen_s > self._lease_s:
                raise LeaseLost("Redis has been out of reach for longer than the lease on the job") from exc

    def require_lease(self) -> None:
        """Raise LeaseLost unless Redis says, now, that this execution holds the job: asked right before publishing."""
        try:
            self.save_meta()
        except redis.RedisError as exc:
            raise LeaseLost("Redis is out of reach, and without the lease nothing is published") from exc

    def save_meta(self) -> None:
        """Write the job's meta if the job is still ours; raise LeaseLost otherwise."""
        if self.job.save_meta_if_held(self.execution) <= 0:
            raise LeaseLost("the lease on the job ran out and another worker may have it")
        self._seen_s = time.monotonic()


@contextmanager
def running(execution: Running) -> Iterator[None]:
    """Let `run_job` find what it runs under: RQ hands a job its own arguments only."""
    token = _running.set(execution)
    try:
        yield
    finally:
        _running.reset(token)


def current() -> Running:
    """Return the execution under way in this process."""
    return _running.get()


def run_job(name: str) -> str | Retry:
    """Run the training job of `name`; what RQ calls, in the work-horse. Returns the outcome's text.

    A fault that may pass ends this try, not the job: RQ is told to try again after a pause that grows.
    """
    from outliers.train.job import train

    here = current()
    job = here.job
    tries = each_try_s(here.config.training.retries)
    job.meta.pop("error", None)
    with about(job=job.id, model=name):
        try:
            outcome = train(
                name,
                here.config,
                store=here.store,
                progress=here.progress,
                job_id=job.id,
                last_try=(job.number_of_retries or 0) >= len(tries),
                before_publish=here.require_lease,
            )
        except LeaseLost:
            raise
        except Exception as error:
            too_long = isinstance(error, JobTimeoutException)
            job.meta["error"] = _reason(error)
            here.save_meta()
            if may_pass(error) and not too_long and (job.number_of_retries or 0) < len(tries):
                unforeseen = not isinstance(error, OutliersError)
                logger.warning("this try failed (%s); again later", job.meta["error"], exc_info=unforeseen)
                return Retry(max=len(tries), interval=tries)
            job.retries_left = 0  # RQ's own retries are for workers that die
            raise
        job.meta["outcome"] = outcome.as_dict()
    return str(outcome)


def _reason(error: Exception) -> str:
    if isinstance(error, JobTimeoutException):
        return "it took longer than [Training] job_timeout_s"
    return str(error) if isinstance(error, OutliersError) else f"internal error ({error!r:.300})"
