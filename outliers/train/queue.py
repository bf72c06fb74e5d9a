"""The queue of training jobs in Redis: the connection, job ids, what is active, the ledger of outcomes.

It must not know what a job does, nor when one is due.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.retry import Retry as ConnectionRetry
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.executions import Execution
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.scripts import release_lock
from rq.serializers import JSONSerializer
from rq.utils import as_text

from outliers.config import Config
from outliers.config import Redis as RedisSettings
from outliers.errors import QueueError
from outliers.train.outcome import Outcome

logger = logging.getLogger(__name__)

QUEUE = "rb-aioutliers"
TASK = "outliers.train.task.run_job"  # by its path: what enqueues imports no torch
LEDGER = "rb-aioutliers:outcomes"  # hash: name -> JSON of the last outcome
SLOT_KEY = "rb-aioutliers:slot"  # the last slot of the cron line that was gone through, Unix seconds
COUNTS = "rb-aioutliers:counts"  # hash: kind of outcome -> how many
KEPT_S = 14 * 86400  # how long a finished job can be looked at
BACKOFF_S = (15, 120, 600)  # before each further try, when Druid or the store is down; the last one repeats


def connect(settings: RedisSettings) -> redis.Redis:
    """Return a client that rides out a restart of a few seconds by itself; nothing is opened yet."""
    return redis.Redis(
        host=settings.hostname,
        port=settings.port,
        password=settings.secret or None,
        socket_connect_timeout=3,
        socket_timeout=10,
        socket_keepalive=True,
        health_check_interval=15,
        retry=ConnectionRetry(ExponentialBackoff(cap=1.0, base=0.05), retries=6),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate what redis-py raises into QueueError."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as exc:
        raise QueueError("Redis refuses the password ([Redis] rd_secret)") from exc
    except (redis.ConnectionError, redis.TimeoutError) as exc:
        raise QueueError("Redis cannot be reached ([Redis] rd_hostname, rd_port)") from exc
    except redis.RedisError as exc:
        raise QueueError(f"Redis refuses: {exc}") from exc


def server_time_s(connection: redis.Redis) -> float:
    """Unix time of the Redis server: one clock for all nodes, however wrong their own are."""
    seconds, microseconds = connection.time()
    return float(seconds) + float(microseconds) / 1e6


# Write a job's meta if, and only if, the execution still holds it: in one step, so that a node which was frozen in
# between cannot write over what another has written since. Returns the seconds that the lease is good for.
_SAVE_IF_HELD = """
local now = redis.call('TIME')
local left = (tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)) - now[1] - now[2] / 1000000
if left > 0 then redis.call('HSET', KEYS[2], 'meta', ARGV[2]) end
return tostring(left)
"""


class Leases(StartedJobRegistry):
    """RQ's started jobs; an execution's entry there, good until its score, is the worker's lease on the job.

    RQ stamps entries with the worker's own clock, and whichever worker cleans up compares them with its own: two
    nodes a minute apart would take each other's jobs for abandoned. Here the server's clock counts.
    """

    def add_execution(self, execution: Execution, pipeline: Pipeline, ttl: int = 0, xx: bool = False) -> Any:
        return pipeline.zadd(self.key, {execution.composite_key: server_time_s(self.connection) + ttl}, xx=xx)

    def seconds_left(self, execution: Execution) -> float:
        """Return how long the lease is good for; 0 or less when it has run out or was taken away."""
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.zscore(self.key, execution.composite_key)
            pipeline.time()
            until_s, (seconds, microseconds) = pipeline.execute()
        return 0.0 if until_s is None else until_s - seconds - microseconds / 1e6


class TrainingJob(Job):
    """An RQ job whose end, however it comes about, is written down as exactly one outcome.

    RQ has one method for every way a job ends; both get the pipeline that ends it, so the outcome is recorded
    if and only if RQ records the end.
    """

    @property
    def name(self) -> str:
        """The model name that this job trains."""
        return str(self.args[0])

    @property
    def outcome(self) -> dict[str, Any] | None:
        return self.meta.get("outcome")

    @property
    def started_job_registry(self) -> Leases:
        return Leases(self.origin, self.connection, job_class=TrainingJob, serializer=self.serializer)

    def save_meta_if_held(self, execution: Execution) -> float:
        """Save the meta unless the lease is lost; return how many seconds it is good for, 0 or less when it is lost."""
        keys = [self.started_job_registry.key, self.key]
        left = self.connection.eval(_SAVE_IF_HELD, 2, *keys, execution.composite_key, self._serialize_meta())
        return float(left)

    def _handle_success(self, result_ttl: int, pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        super()._handle_success(result_ttl, pipeline, *args, **kwargs)
        record(self, self.outcome or Outcome("failed", reason="the job ended without an outcome").as_dict(), pipeline)

    def _handle_failure(self, exc_string: str, pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        super()._handle_failure(exc_string, pipeline, *args, **kwargs)
        meta = self.get_meta(refresh=True)  # the work-horse wrote its progress there, this process may be another
        reason = meta.get("error") or readable(exc_string)
        record(self, Outcome("failed", reason=reason, figures=meta.get("progress", {})).as_dict(), pipeline)


def record(job: TrainingJob, outcome: Mapping[str, Any], pipeline: Pipeline) -> None:
    """Write a job's outcome into its meta, the ledger and the counts, when `pipeline` is executed, and into the log."""
    job.meta["outcome"] = dict(outcome)
    entry = {**outcome, "job": job.id, "ended_at_s": int(datetime.now(timezone.utc).timestamp())}
    pipeline.hset(job.key, "meta", JSONSerializer.dumps(job.meta))
    pipeline.hset(LEDGER, job.name, json.dumps(entry))
    pipeline.hincrby(COUNTS, str(outcome["kind"]), 1)
    level = logging.WARNING if outcome["kind"] == "failed" else logging.INFO
    logger.log(level, "outcome: %s", outcome["text"], extra={"job": job.id, "model": job.name})


def readable(exc_string: str) -> str:
    """Return one sentence for what RQ noted about a failure (a traceback, or its own words)."""
    killed = re.search(r"waitpid returned (\d+)(?: \(signal (\d+)\))?", exc_string)
    if killed and killed[2]:
        name = signal.Signals(int(killed[2])).name
        known = {"SIGKILL": ", as the kernel does when memory runs out", "SIGSEGV": ", a crash in native code"}
        return f"the process that ran it was ended by {name}{known.get(name, '')}"
    if killed:
        return f"the process that ran it ended with status {int(killed[1]) >> 8}"
    if "AbandonedJobError" in exc_string:
        return "each worker that ran it died or was cut off from Redis"
    if "stuck in intermediate queue" in exc_string:
        return "each worker that took it died before it began"
    if "stopped by user" in exc_string:
        return "stopped by hand"
    if "JobTimeoutException" in exc_string:
        return "it took longer than [Training] job_timeout_s"
    lines = [line for line in exc_string.strip().splitlines() if line and not line[0].isspace()]
    last = lines[-1] if lines else "no reason was noted"
    kind, _, text = last.partition(": ")
    return text if text and kind.startswith("outliers.errors.") else f"internal error ({last[:300]})"


class TrainingQueue:
    """The one queue; every method raises QueueError when Redis cannot be reached or refuses."""

    def __init__(self, config: Config, connection: redis.Redis | None = None) -> None:
        self.config = config
        self.connection = connection or connect(config.redis)
        self.rq = Queue(QUEUE, connection=self.connection, job_class=TrainingJob, serializer=JSONSerializer)

    def now_s(self) -> float:
        with redis_errors():
            return server_time_s(self.connection)

    def enqueue(self, name: str, slot: str) -> str | None:
        """Enqueue the job of `name` for `slot`; None if that was done before, by whatever node."""
        training = self.config.training
        # RQ's own retries are for workers that die; such a job goes on at once, before what waits
        options: dict[str, Any] = (
            {"retry": Retry(max=training.retries, enqueue_at_front=True)} if training.retries else {}
        )
        try:
            with redis_errors():
                job = self.rq.enqueue(
                    TASK,
                    args=(name,),
                    job_id=f"{key_of(name)}-{slot}",
                    unique=True,
                    description=f"train {name}",
                    job_timeout=int(training.job_timeout_s),
                    result_ttl=KEPT_S,
                    failure_ttl=KEPT_S,
                    meta={"slot": slot},
                    **options,
                )
        except DuplicateJobError:
            return None
        return str(job.id)

    def active_keys(self) -> set[str]:
        """Return key_of() every name that has a job waiting, running or to be tried again."""
        with redis_errors():
            ids = set(self.rq.get_job_ids())
            ids.update(self.rq.intermediate_queue.get_job_ids())
            ids.update(self.rq.started_job_registry.get_job_ids(cleanup=False))
            ids.update(self.rq.scheduled_job_registry.get_job_ids(cleanup=False))
        return {job_id.rsplit("-", 1)[0] for job_id in ids}

    def last_outcomes(self) -> dict[str, dict[str, Any]]:
        """Return each name's last outcome: Outcome.as_dict() with `job` and `ended_at_s`."""
        with redis_errors():
            return {as_text(name): json.loads(text) for name, text in self.connection.hgetall(LEDGER).items()}

    def forget_outcomes(self, before_s: float) -> None:
        """Drop what the ledger says of names that had no outcome since: they are looked after no more."""
        old = [name for name, outcome in self.last_outcomes().items() if outcome["ended_at_s"] < before_s]
        if old:
            with redis_errors():
                self.connection.hdel(LEDGER, *old)

    def outcome_counts(self) -> dict[str, int]:
        with redis_errors():
            return {as_text(kind): int(count) for kind, count in self.connection.hgetall(COUNTS).items()}

    def take(self, lock: str, holder: str, seconds: int) -> bool:
        """Take `lock` for so many seconds unless another holder has it."""
        with redis_errors():
            return bool(self.connection.set(f"rb-aioutliers:lock:{lock}", holder, nx=True, ex=seconds))

    def release(self, lock: str, holder: str) -> None:
        with redis_errors():
            release_lock(self.connection, f"rb-aioutliers:lock:{lock}", holder)


def key_of(name: str) -> str:
    """Return what a job id of `name` begins with: readable, and another for every name.

    RQ allows letters, digits, `_` and `-` in an id; the digest keeps apart what that makes equal.
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name)[:60]
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def each_try_s(retries: int) -> list[int]:
    """Return the seconds to wait before each of `retries` further tries."""
    return [BACKOFF_S[min(i, len(BACKOFF_S) - 1)] for i in range(retries)]
