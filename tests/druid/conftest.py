"""Brokers for the tests: one over the recorded events, one over generated traffic at a fixed time, and a client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from outliers.druid.client import Druid
from outliers.druid.simulator import Simulator

DATA = Path(__file__).parent / "data"
NOW_S = 1_767_715_230  # Tuesday 2026-01-06 16:00:30 UTC


@dataclass(frozen=True)
class Settings:
    """What a client reads of the configuration, with times short enough for tests."""

    endpoint: str
    connect_timeout_s: float = 1.0
    timeout_s: float = 5.0
    max_answer_mb: float = 64.0
    newest_s: float = 10.0
    ca_file: str = ""
    user: str = ""
    password: str = ""


@pytest.fixture(scope="session")
def recorded() -> Iterator[Simulator]:
    """The events of the recorded cases."""
    with Simulator(events_dir=str(DATA)) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def generated() -> Iterator[Simulator]:
    """Generated sensors whose time stands still at NOW_S."""
    with Simulator(seed=3, now=NOW_S) as simulator:
        yield simulator


@pytest.fixture
def faulty() -> Iterator[Simulator]:
    """Generated sensors of one test alone, to set `faults` on."""
    with Simulator(seed=3, now=NOW_S) as simulator:
        yield simulator


@pytest.fixture
def client(generated: Simulator) -> Iterator[Druid]:
    druid = Druid(Settings(generated.url))
    yield druid
    druid.close()
