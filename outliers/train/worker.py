"""The worker of training jobs: RQ's, made to outlive Redis, to take over from the dead soon, and never to run twice.

It must not know what a job does (task.py, job.py) nor when one is due (schedule.py).

What RQ does is kept: one process forked per job, retries, registries. What is changed here, and why:
- heartbeats of seconds instead of minutes, maintenance every few seconds, by a busy worker too, under a lock that a
  killed worker cannot hold for a quarter of an hour: a dead worker's job is taken over within a minute;
- an execution that lost its lease (see queue.Leases) may neither publish nor write how the job ended;
- Redis going away neither ends the worker nor orphans the job's process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import time
from typing import Any

import redis
from rq import Queue, Worker, worker_registration
from rq.executions import Execution
from rq.job import JobStatus
from rq.scheduler import RQScheduler
from rq.scripts import release_lock
from rq.serializers import JSONSerializer
from rq.utils import now

from outliers.config import Config
from outliers.errors import QueueError
from outliers.store import Store, open_store
from outliers.train.queue import Leases, TrainingJob, TrainingQueue, redis_errors, server_time_s
from outliers.train.task import Running, running

logger = logging.getLogger(__name__)

BEAT_S = 5  # between two heartbeats of a running job
LEASE_S = 30  # a job whose worker has been silent for so long is given to another
MAINTENANCE_S = 10  # between two looks for abandoned jobs and due retries
GRACE_S = 60  # after SIGTERM a running job may go on for so long; then it goes back to the queue
REDIS_PAUSE_S = 3  # between two tries to reach a Redis that is gone


class TrainingWorker(Worker):
    """One worker; see the module's docstring for what differs from RQ's."""

    max_connection_wait_time = 5.0
    log_result_lifespan = False

    def __init__(self, queue: TrainingQueue, store: Store) -> None:
        super().__init__(
            [queue.rq],
            name=f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}",
            connection=queue.connection,
            job_class=TrainingJob,
            serializer=JSONSerializer,
            maintenance_interval=MAINTENANCE_S,
            worker_ttl=MAINTENANCE_S + 15,  # RQ blocks 15 s less than this on an empty queue
            job_monitoring_interval=BEAT_S,
        )
        self.config = queue.config
        self.store = store
        self.stop_asked_s: float | None = None
        self._beaten_s = time.monotonic()
        self._retries = RQScheduler(
            self.queues, connection=self.connection, serializer=JSONSerializer, logging_level="WARNING"
        )

    # --- heartbeats and stopping ---

    def get_heartbeat_ttl(self, job: Any, working_time: float = 0.0) -> int:
        return LEASE_S

    def maintain_heartbeats(self, job: Any, execution: Execution) -> None:
        """Called every BEAT_S while a job runs: beat, look after the queue, end a job that must not go on."""
        try:
            super().maintain_heartbeats(job, execution)
            self._beaten_s = time.monotonic()
            if self.should_run_maintenance_tasks:
                self.run_maintenance_tasks()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            logger.warning("no heartbeat: %s", error)
        if time.monotonic() - self._beaten_s > LEASE_S:
            logger.error("ending job %s: Redis has been out of reach for longer than its lease", job.id)
            self.kill_horse()
        elif self.stop_asked_s and time.monotonic() - self.stop_asked_s > GRACE_S:
            logger.warning("ending job %s: told to stop %d s ago; it goes back to the queue", job.id, GRACE_S)
            job.retries_left = (job.retries_left or 0) + 1  # this try does not count
            self.kill_horse()

    def request_stop(self, signum: Any, frame: Any) -> None:
        self.stop_asked_s = time.monotonic()
        logger.info("told to stop%s", ": finishing the job first" if self.horse_pid else "")
        super().request_stop(signum, frame)

    def _shutdown(self) -> None:
        with contextlib.suppress(redis.RedisError):  # RQ only notes the wish in Redis, after remembering it here
            super()._shutdown()

    # --- one job ---

    def execute_job(self, job: Any, queue: Queue) -> None:
        if job.get_status() is not JobStatus.QUEUED:  # its id was in the queue twice, after a lost reply to a push
            queue.intermediate_queue.remove(job.id)
            return
        self._beaten_s = time.monotonic()
        super().execute_job(job, queue)

    def main_work_horse(self, job: Any, queue: Queue) -> None:
        """In the forked process: die with the worker, so that a job it lost does not run on in a process of its own."""
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != self.pid:
            os._exit(1)
        super().main_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the whole group by systemd; the worker decides

    def perform_job(self, job: Any, queue: Queue, execution: Execution) -> bool:
        job.meta["tries"] = job.meta.get("tries", 0) + 1
        job.save_meta()
        with running(Running(self.config, self.store, job, execution, LEASE_S)):
            return super().perform_job(job, queue, execution)

    def _finalize_success(self, job: Any, queue: Queue, execution: Execution, return_value: Any) -> None:
        if self._ours(job, execution):
            super()._finalize_success(job, queue, execution, return_value)

    def _finalize_failure(self, job: Any, queue: Queue, execution: Execution, exc_info: Any) -> None:
        if self._ours(job, execution):
            super()._finalize_failure(job, queue, execution, exc_info)

    def handle_job_failure(
        self, job: Any, queue: Queue, started_job_registry: Any = None, exc_string: str = "", execution: Any = None
    ) -> None:
        if execution is None or self._ours(job, execution):
            if not self.is_horse:
                job.get_meta(refresh=True)  # RQ saves the job whole; what its process wrote must not be undone
            super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    def _ours(self, job: TrainingJob, execution: Execution) -> bool:
        ours = job.started_job_registry.seconds_left(execution) > 0
        if not ours:
            logger.warning("job %s is no longer this worker's: what it came to here is not written down", job.id)
        return ours

    # --- looking after the queue ---

    def clean_registries(self) -> None:
        """Give abandoned jobs to others, put due retries into the queue, forget what is old; one worker at a time."""
        worker_registration.register(self)  # a Redis that lost its memory knows nobody
        self.connection.hset(self.key, mapping=self.serialize())
        lock = f"rb-aioutliers:lock:maintenance:{self.queues[0].name}"
        if self.connection.set(lock, self.name, nx=True, ex=2 * MAINTENANCE_S):
            for queue in self.queues:
                self._tend(queue)
            release_lock(self.connection, lock, self.name)
        self.last_cleaned_at = now()  # type: ignore[assignment]

    def _tend(self, queue: Queue) -> None:
        queue.finished_job_registry.cleanup()
        queue.failed_job_registry.cleanup()
        Leases(queue=queue, job_class=TrainingJob).cleanup(timestamp=server_time_s(self.connection))
        worker_registration.clean_worker_registry(queue)
        for job_id in queue.intermediate_queue.get_job_ids():
            self._free_stuck(queue, job_id)
        self._retries.prepare_registries([queue.name])
        self._retries.enqueue_scheduled_jobs()

    def _free_stuck(self, queue: Queue, job_id: str) -> None:
        """Hand on a job that a worker took from the queue and never began, once it has been so for LEASE_S.

        RQ waits a minute, and takes for stuck also a job whose process was killed before it could drop the mark
        "taken": that one would run twice. It also never forgets when it first saw a job there.
        """
        taken = queue.intermediate_queue
        seen_key = taken.get_first_seen_key(job_id)
        job = queue.fetch_job(job_id)
        waiting = job is not None and job.get_status(refresh=False) is JobStatus.QUEUED
        if waiting and queue.get_job_position(job_id) is None:
            if taken.set_first_seen(job_id) or job_id in queue.started_job_registry:
                return
            first_seen = taken.get_first_seen(job_id)
            if first_seen and (now() - first_seen).total_seconds() < LEASE_S:
                return
            self.handle_job_failure(job, queue, exc_string="Job was stuck in intermediate queue.")
        taken.remove(job_id)
        self.connection.delete(seen_key)

    def clean_group_registries(self) -> None:
        """Nothing: jobs here are in no groups."""


def preload(config: Config) -> Store:
    """Import and open what every job needs before forking, so that a job's process starts in milliseconds.

    Nothing is connected yet: a connection must not be shared by processes.
    """
    import torch

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    import outliers.train.job  # noqa: F401

    store = open_store(config)
    if config.store.kind == "s3":
        store.files.prepare()  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and thereby copying, the pages that all jobs share
    return store


def add_arguments(parser: Any) -> None:
    parser.add_argument("--burst", action="store_true", help="run the jobs that wait now, then exit")


def run_work(config: Config, *, burst: bool = False) -> int:
    """Take jobs and run them until told to stop (SIGTERM, SIGINT); a Redis that is gone is waited for."""
    store = preload(config)
    queue = TrainingQueue(config)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            try:
                with redis_errors():
                    worker = TrainingWorker(queue, store)
                    logger.info("waiting for jobs as %s", worker.name)
                    worker.work(burst=burst, logging_level="WARNING")
                if worker.stop_asked_s or burst:
                    return 0
            except QueueError as error:
                if "password" in str(error):
                    raise
                logger.warning("%s; trying again in %d s", error, REDIS_PAUSE_S)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            time.sleep(REDIS_PAUSE_S)
            continue
        return 0
