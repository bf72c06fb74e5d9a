"""The servers as fixtures: started when first asked for, ended with the run; a test that lacks one says which tool."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from redis import Redis

from tests.real.random_events import FLOW, MONITOR, write_random_events
from tests.real.servers.consul import SERVICE, instances
from tests.real.servers.druid import Druid
from tests.real.servers.fleet import COORDINATOR_VARIABLE, VARIABLES, Fleet, Place, sections_for
from tests.real.servers.loading import Loader
from tests.real.servers.minio import s3_client
from tests.real.servers.process import wait_until
from tests.real.system import Executor, System
from tests.real.traffic import DAYS, NAMES, Loaded, load_traffic


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with Fleet() as all_servers:
        yield all_servers


def place_or_skip(fleet: Fleet, kind: str) -> Place:
    place = fleet.place(kind)
    if place.missing:
        pytest.skip(f"no {kind}: {place.missing}")
    return place


@pytest.fixture(scope="session")
def druid(fleet: Fleet) -> Place:
    return place_or_skip(fleet, "druid")


@pytest.fixture(scope="session")
def s3(fleet: Fleet) -> Place:
    return place_or_skip(fleet, "s3")


@pytest.fixture(scope="session")
def consul(fleet: Fleet) -> Place:
    return place_or_skip(fleet, "consul")


@pytest.fixture(scope="session")
def redis(fleet: Fleet) -> Place:
    return place_or_skip(fleet, "redis")


@pytest.fixture(scope="session")
def loader(druid: Place) -> Loader:
    """Load into our Druid, or into the one that the environment names (its rb_flow and rb_monitor are replaced)."""
    if isinstance(druid.server, Druid):
        return Loader(druid.server.coordinator_url, druid.url)
    coordinator = os.environ.get(COORDINATOR_VARIABLE)
    if not coordinator:
        pytest.skip(f"${VARIABLES['druid']} alone cannot be loaded with events: set ${COORDINATOR_VARIABLE} too")
    return Loader(coordinator, druid.url)


SEED = 20261124
PREFIX = "random_"  # the real Druid holds the system tests' traffic under the plain names


@dataclass(frozen=True)
class RandomEvents:
    """The files, and the Druid that holds them under names with PREFIX."""

    folder: Path
    url: str


def on_random_events(query: str) -> str:
    """Make a query's text ask for the random events in the real Druid."""
    return query.replace('"rb_', f'"{PREFIX}rb_')


@pytest.fixture(scope="session")
def random_events(druid: Place, loader: Loader, tmp_path_factory: pytest.TempPathFactory) -> RandomEvents:
    folder = tmp_path_factory.mktemp("random_events")
    counts = write_random_events(folder, SEED)
    for roll_up in (FLOW, MONITOR):
        name = roll_up.data_source
        loader.load(PREFIX + name, folder / f"{name}.jsonl.gz", roll_up.dimensions, roll_up.metrics, counts[name])
    return RandomEvents(folder, f"{druid.url}/druid/v2/")


@pytest.fixture(scope="session")
def traffic(loader: Loader, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_traffic(loader, tmp_path_factory.mktemp("traffic"))


@pytest.fixture(scope="session")
def system(
    druid: Place,
    s3: Place,
    consul: Place,
    redis: Place,
    traffic: Loaded,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """The service configured for all four servers: a bucket of its own, an empty Redis; nothing runs yet."""
    with Redis(redis.host, redis.port, password=redis.secret or None) as client:
        client.flushdb()
    bucket = f"system-{time.time_ns():x}"
    s3_client(s3.url, s3.user, s3.secret).create_bucket(Bucket=bucket)
    sections = sections_for({"druid": druid, "s3": s3, "consul": consul, "redis": redis}, bucket)
    whole = System(tmp_path_factory.mktemp("system"), sections)
    whole.configure(
        {
            "OutliersServerProduction": {"outliers_server_workers": 2},
            "Outliers": {"schedule_hour": "* * * * *"},
            "Training": {"granularities": "PT1M,PT5M,PT1H", "days": DAYS, "retries": 1},
            "Detection": {"stale_s": 10**9},  # the traffic's clock stands still
            "Druid": {"timeout_s": 5},
            "Store": {"refresh_s": 1},
            "Consul": {"check_interval_s": 1, "enabled": "false"},
        }
    )
    yield whole
    whole.close()


@dataclass(frozen=True)
class Trained:
    """What scheduler and worker came to: the job of each name. seconds: from their start to the last outcome."""

    jobs: dict[str, dict[str, Any]]
    seconds: float

    @property
    def versions(self) -> dict[str, str]:
        """Version of each name that was published."""
        outcomes = {name: job["outcome"] for name, job in self.jobs.items()}
        return {name: text.split()[1].rstrip(":") for name, text in outcomes.items() if text.startswith("published ")}


@pytest.fixture(scope="session")
def trained(system: System) -> Trained:
    """Let `schedule` discover the sensors and `work` train each of them, as processes of their own."""
    begin = time.monotonic()
    worker = system.start("work")
    scheduler = system.start("schedule")

    def jobs() -> dict[str, dict[str, Any]]:
        code, text = system.run("jobs", "list", "--all", "--json")
        assert code == 0, text
        return {each["name"]: each for each in json.loads(text)}

    def ended() -> bool:
        found = jobs()
        return len(found) == len(NAMES) and all(each["outcome"] and each["ended_at"] for each in found.values())

    wait_until(ended, 300, "training", [worker, scheduler], every_s=3)
    seconds = time.monotonic() - begin
    for process in (scheduler, worker):
        process.signal(signal.SIGTERM)
        assert process.wait(30) == 0, process.tail()
        process.close()
    return Trained(jobs(), seconds)


@pytest.fixture(scope="session")
def executor(system: System, trained: Trained) -> Iterator[Executor]:
    """An executor as it comes, with all models; registered in Consul by hand only, as the cookbook does it."""
    running = served(system, trained)
    yield running
    running.process.close()


@pytest.fixture(scope="session")
def tried(system: System, trained: Trained) -> Iterator[Executor]:
    """An executor for faults: it remembers no answer that would hide one, and keeps itself in Consul."""
    system.configure({"Druid": {"cache_s": 0, "history_s": 0}, "Consul": {"enabled": "true"}})
    running = served(system, trained)
    yield running
    running.process.close()


def served(system: System, trained: Trained) -> Executor:
    running = system.serve()
    running.wait_ready()
    wait_until(lambda: set(running.models()) == set(trained.versions), 30, "the models", [running.process])
    return running


def listed(consul: Place, executor: Executor) -> bool:
    """Whether those who ask for passing instances are sent to this executor."""
    try:
        found = instances(consul.url, SERVICE)
    except requests.RequestException:
        return False
    return [each["Service"]["Port"] for each in found] == [int(executor.url.rpartition(":")[2])]


T = TypeVar("T")


def ours(place: Place, kind: type[T]) -> T:
    """Give the server itself, for tests that stop it; one that the environment names is not ours to stop."""
    if not isinstance(place.server, kind):
        pytest.skip("this server is not ours to stop")
    return place.server


class FaultTable:
    """What a fault looks like from outside, and how long until all is right again without a restart of ours."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def add(self, fault: str, told: str, seconds: float) -> None:
        """seconds: from the repair (for an executor that is killed: from the fault) to the right answer."""
        self.rows.append((fault, told, f"{seconds:.1f}"))


FAULTS = pytest.StashKey[FaultTable]()


@pytest.fixture(scope="session")
def faults(pytestconfig: pytest.Config) -> FaultTable:
    return pytestconfig.stash.setdefault(FAULTS, FaultTable())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash.get(FAULTS, None)
    if table is None:
        return
    terminalreporter.section("faults")
    terminalreporter.line("| fault | what the caller is told | seconds until right again |")
    terminalreporter.line("|---|---|---|")
    for row in table.rows:
        terminalreporter.line(f"| {' | '.join(row)} |")
