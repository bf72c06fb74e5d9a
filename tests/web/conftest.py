"""Contexts to ask in: without Druid, with recorded answers, with the simulator; models in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from outliers.druid.simulator import Simulator
from outliers.infer.cache import Models
from outliers.times import parse_instant_ms
from tests.web.asking import DATA, NOW, SENSOR, Asking, config_for
from tests.web.recorded import Recorded


@pytest.fixture
def no_models(tmp_path: Path) -> Models:
    return Models(str(tmp_path / "nothing"), 64)


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """The models of a mirror that holds one of SENSOR."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(DATA / f"{SENSOR}.onnx", mirror)
    found = Models(str(mirror), 64)
    found.refresh()
    return found


@pytest.fixture
def of_data(no_models: Models) -> Asking:
    """Questions that bring their rows; nobody answers at the Druid's address."""
    return Asking(config_for("http://127.0.0.1:9/druid/v2/"), no_models, NOW)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    broker = Recorded()
    yield broker
    broker.close()


@pytest.fixture
def of_recorded(recorded: Recorded, no_models: Models) -> Asking:
    return Asking(config_for(recorded.url), no_models, "2025-11-24T00:00:00Z")


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with Simulator(seed=1, now=parse_instant_ms(NOW) / 1000) as running:
        yield running


@pytest.fixture
def of_simulator(simulator: Simulator, models: Models) -> Asking:
    simulator.faults.clear()
    return Asking(config_for(simulator.url, druid={"cache_s": 0.0}), models, NOW)
