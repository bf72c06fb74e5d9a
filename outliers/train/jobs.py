"""Training jobs for a person: what waits, runs and failed and why; trying again, cancelling.

It must not know what a job does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import JOB_ID_PATTERN, JobStatus
from rq.serializers import JSONSerializer

from outliers.config import Config
from outliers.errors import InvalidRequest, NotFound
from outliers.train.outcome import Outcome
from outliers.train.queue import KEPT_S, TrainingJob, TrainingQueue, key_of, record, redis_errors

STATES = {
    JobStatus.QUEUED: "waiting",
    JobStatus.STARTED: "running",
    JobStatus.SCHEDULED: "to be tried again",
    JobStatus.FINISHED: "ended",
    JobStatus.FAILED: "failed",
    JobStatus.STOPPED: "stopped",
    JobStatus.CANCELED: "cancelled",
}


@dataclass(frozen=True)
class JobView:
    """A job as a person sees it. Times are UTC; `outcome` is its text, or what went wrong with the last try."""

    id: str
    name: str
    state: str
    enqueued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    next_try_at: datetime | None
    tries: int
    worker: str
    outcome: str
    progress: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""


def list_jobs(queue: TrainingQueue, *, ended: bool = False) -> list[JobView]:
    """Return the jobs that wait, run, are to be tried again or failed, and with `ended` those that went well too."""
    rq = queue.rq
    with redis_errors():
        ids = [*rq.started_job_registry.get_job_ids(cleanup=False), *rq.intermediate_queue.get_job_ids()]
        ids += [*rq.get_job_ids(), *rq.scheduled_job_registry.get_job_ids(cleanup=False)]
        ids += rq.failed_job_registry.get_job_ids(cleanup=False)
        if ended:
            ids += rq.finished_job_registry.get_job_ids(cleanup=False)
        found = TrainingJob.fetch_many(list(dict.fromkeys(ids)), queue.connection, serializer=JSONSerializer)
        return [_view(queue, job) for job in found if isinstance(job, TrainingJob)]


def find_job(queue: TrainingQueue, name_or_id: str) -> TrainingJob:
    """Return the job of that id, or the newest of that name. Raises NotFound."""
    with redis_errors():
        ids = [name_or_id] if JOB_ID_PATTERN.fullmatch(name_or_id) else []
        ids += _ids_of(queue, name_or_id)
        for job in TrainingJob.fetch_many(ids, queue.connection, serializer=JSONSerializer):
            if isinstance(job, TrainingJob):
                return job
    raise NotFound(f"there is no job of {name_or_id!r}: `jobs list --all` shows those there are")


def show_job(queue: TrainingQueue, name_or_id: str) -> JobView:
    """Return all that is known of a job. Raises NotFound."""
    with redis_errors():
        return _view(queue, find_job(queue, name_or_id))


def retry_job(queue: TrainingQueue, name_or_id: str) -> JobView:
    """Put a failed job back into the queue, with all its tries. Raises NotFound, InvalidRequest if it did not fail."""
    job = find_job(queue, name_or_id)
    with redis_errors():
        if job.id not in queue.rq.failed_job_registry:
            raise InvalidRequest(f"{job.id} is {STATES.get(job.get_status(), 'unknown')}: only a failed job is retried")
        job.retries_left, job.number_of_retries = queue.config.training.retries, 0
        job.meta = {"slot": job.meta.get("slot", "")}
        job.save()
        queue.rq.failed_job_registry.requeue(job)
        return _view(queue, job)


def cancel_job(queue: TrainingQueue, name_or_id: str) -> JobView:
    """Take a job out of the queue, or end the one that runs. Raises NotFound, InvalidRequest if it has ended."""
    job = find_job(queue, name_or_id)
    with redis_errors():
        status = job.get_status()
        if status is JobStatus.STARTED:
            queue.connection.hset(job.key, "retries_left", 0)  # should its worker be dead, nobody takes it over
            try:
                send_stop_job_command(queue.connection, job.id, serializer=JSONSerializer)  # the worker records it
            except InvalidJobOperation as exc:
                raise InvalidRequest(f"{job.id} is not running any more") from exc
        elif status in (JobStatus.QUEUED, JobStatus.SCHEDULED):
            job.cancel()
            with queue.connection.pipeline() as pipeline:
                record(job, Outcome("failed", reason="cancelled by hand").as_dict(), pipeline)
                pipeline.expire(job.key, KEPT_S)
                pipeline.execute()
        else:
            raise InvalidRequest(f"{job.id} is {STATES.get(status, status)}: there is nothing to cancel")
        return _view(queue, job)


def _ids_of(queue: TrainingQueue, name: str) -> list[str]:
    """Return the ids of a name's jobs, the newest slot first; RQ keeps no index by name."""
    pattern = f"{TrainingJob.redis_job_namespace_prefix}{key_of(name)}-*"
    keys = [key.decode() for key in queue.connection.scan_iter(pattern, count=1000)]
    ids = [key[len(TrainingJob.redis_job_namespace_prefix) :] for key in keys]
    return sorted((job_id for job_id in ids if ":" not in job_id), reverse=True)


def _view(queue: TrainingQueue, job: TrainingJob) -> JobView:
    status = job.get_status()
    next_try_at = None
    if status is JobStatus.SCHEDULED:
        try:
            next_try_at = queue.rq.scheduled_job_registry.get_scheduled_time(job)
        except NoSuchJobError:
            next_try_at = None
    outcome = job.outcome or {}
    result = job.latest_result()
    return JobView(
        id=job.id,
        name=job.name,
        state=STATES.get(status, str(status)),
        enqueued_at=job.enqueued_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        next_try_at=next_try_at,
        tries=job.meta.get("tries", 0),
        worker=job.worker_name or "",
        outcome=outcome.get("text") or job.meta.get("error", ""),
        progress=job.meta.get("progress", {}),
        figures=outcome.get("figures", {}),
        traceback=(result.exc_string or "") if result else "",
    )


# --- the verb ---


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what waits, runs, is to be tried again and failed, and why")
    listing.add_argument("--all", action="store_true", help="jobs that ended well too")
    for name, what in (
        ("show", "all that is known of a job"),
        ("retry", "put a failed job back into the queue"),
        ("cancel", "take a job out of the queue, or end the one that runs"),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("job", metavar="NAME|ID", help="a model's name (its newest job) or a job's id")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="JSON instead of text")


def run_jobs(args: Any, config: Config) -> int:
    queue = TrainingQueue(config)
    if args.action == "list":
        jobs = list_jobs(queue, ended=args.all)
        print(_json([vars(job) for job in jobs]) if args.json else table(jobs))
        return 0
    act = {"show": show_job, "retry": retry_job, "cancel": cancel_job}[args.action]
    job = act(queue, args.job)
    if args.json:
        print(_json(vars(job)))
    elif args.action == "show":
        print(details(job))
    else:
        print(f"{job.id}: {'back in the queue' if args.action == 'retry' else 'cancelled'}")
    return 0


def table(jobs: Iterable[JobView]) -> str:
    """Return the list as text, one line a job."""
    lines = [("NAME", "STATE", "SINCE", "TRIES", "JOB", "WHAT")]
    for job in jobs:
        since = job.ended_at if job.state in ("ended", "failed", "stopped") else job.started_at or job.enqueued_at
        what = job.outcome
        if job.state == STATES[JobStatus.SCHEDULED]:
            what = f"again at {_time(job.next_try_at) if job.next_try_at else 'once'} after: {what}"
        elif job.state == "running":
            what = ", ".join(f"{key} {value}" for key, value in job.progress.items() if not isinstance(value, dict))
        lines.append((job.name, job.state, _time(since), str(job.tries), job.id, what))
    if len(lines) == 1:
        return "no jobs"
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join("  ".join([*(text.ljust(w) for text, w in zip(line, widths)), line[5]]).rstrip() for line in lines)


def details(job: JobView) -> str:
    """Return all that is known of a job as text, one line a fact, the traceback last."""
    facts = {key: value for key, value in vars(job).items() if value not in ("", None, {}) and key != "traceback"}
    lines = []
    for key, value in facts.items():
        text = _time(value) if isinstance(value, datetime) else _json(value) if isinstance(value, dict) else str(value)
        lines.append(f"{key.replace('_', ' ')}: {text}")
    return "\n".join([*lines, *([job.traceback.rstrip()] if job.traceback else [])])


def _time(at: datetime | None) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if at else "-"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, default=lambda v: _time(v) if isinstance(v, datetime) else str(v))
