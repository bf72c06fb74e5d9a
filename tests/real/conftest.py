"""The servers as fixtures: started when a test first asks, ended with the run; a test that lacks one says which tool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real.servers.fleet import Fleet, Place


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
def consul(fleet: Fleet) -> Place:
    return place_or_skip(fleet, "consul")


@pytest.fixture(scope="session")
def redis(fleet: Fleet) -> Place:
    return place_or_skip(fleet, "redis")
