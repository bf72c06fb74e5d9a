"""The servers as fixtures: started when first asked for, ended with the run; a test that lacks one says which tool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.real.random_events import FLOW, MONITOR, write_random_events
from tests.real.servers.druid import Druid
from tests.real.servers.fleet import COORDINATOR_VARIABLE, VARIABLES, Fleet, Place
from tests.real.servers.loading import Loader


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

    def add(self, fault: str, told: str, seconds: float | None) -> None:
        """seconds: None where it does not pass by itself."""
        self.rows.append((fault, told, "–" if seconds is None else f"{seconds:.1f}"))


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
