"""A simulated Druid, and the store's S3 over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outliers.druid.simulator import Simulator
from outliers.times import parse_instant_ms
from tests.store.conftest import s3_address, s3_config  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    # DATA's model has learned from the two months before 2026-11-26T04:16Z
    with Simulator(seed=1, now=parse_instant_ms("2026-11-27T20:00:00Z") / 1000) as running:
        yield running
