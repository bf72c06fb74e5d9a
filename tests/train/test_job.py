"""The training job from a simulated Druid to a real store: what is published, what is refused and why."""

from __future__ import annotations

import gzip
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
from outliers.config import Config
from outliers.druid.simulator import Simulator
from outliers.errors import DruidError, DruidUnreachable, NotFound, StoreUnavailable
from outliers.infer.model import Model
from outliers.series import Series
from outliers.store import Store, new_version, open_store
from outliers.train.job import train
from outliers.train.outcome import Outcome

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DAY_S = 86400
SENSOR = "quiet-lab"


@pytest.fixture(scope="module")
def broker() -> Iterator[Simulator]:
    with Simulator(seed=5) as simulator:
        yield simulator


@pytest.fixture
def druid(broker: Simulator) -> Iterator[Simulator]:
    broker.faults.clear()
    yield broker
    broker.faults.clear()


@pytest.fixture
def config(druid: Simulator, tmp_path: Path) -> Config:
    """Two coarse granularities over a week: a job of a second or two."""
    plain = Config()
    return replace(
        plain,
        druid=replace(plain.druid, endpoint=druid.url),
        store=replace(plain.store, directory=str(tmp_path / "store")),
        training=replace(plain.training, granularities=("PT15M", "PT1H"), days=7),
        outliers=replace(plain.outliers, epochs=2),
    )


@pytest.fixture
def store(config: Config) -> Store:
    return open_store(config)


def versions(store: Store, name: str = SENSOR) -> list[str]:
    return [stored.version for stored in store.versions(name)]


def publish_something(store: Store, name: str = SENSOR) -> str:
    """Publish a file that is no model, as an old one may be."""
    try:
        expected = store.head(name)
    except NotFound:
        expected = None
    return store.publish(name, new_version(), b"no model", None, expected=expected).version


def test_published_model_is_what_the_executor_loads(config: Config, store: Store, tmp_path: Path):
    config = replace(config, outliers=replace(config.outliers, backup_path=str(tmp_path / "backups")))
    outcome = train(SENSOR, config)
    assert str(outcome) == f"published {outcome.version}"
    data, served = store.get_latest(SENSOR)
    meta = Model.load(data).meta
    assert served.version == meta.version == outcome.version and versions(store) == [outcome.version]
    assert meta.name == SENSOR and meta.filter == {"type": "selector", "dimension": "sensor_name", "value": SENSOR}
    assert set(meta.granularities) == {"PT15M", "PT1H"} and meta.parent is None and len(meta.settings_sha256) == 64
    assert meta.trained_to <= time.time() - config.druid.settle_s
    assert abs(meta.trained_to - meta.trained_from - 14 * DAY_S) < 2 * 3600
    assert outcome.figures["points"]["PT15M"] >= 7 * 96 - 2
    assert {"druid", "fit", "export", "publish"} <= set(outcome.figures["seconds"])
    copies = sorted(path.name for path in (tmp_path / "backups" / SENSOR).iterdir())
    assert copies == [f"{outcome.version}.onnx", f"{outcome.version}.pt"]
    step_s, t = 3600, 48
    series = Series(
        meta.trained_to // step_s * step_s + step_s * np.arange(t), np.ones((t, len(meta.metrics))), meta.metrics,
        "PT1H", step_s,
    )  # fmt: skip
    assert np.isfinite(Model.load(data).score(series).score).all()


def test_next_training_names_its_parent_and_prunes(config: Config, store: Store):
    config = replace(config, training=replace(config.training, keep_versions=2))
    published = [train(SENSOR, config).version for _ in range(3)]
    assert versions(store) == published[1:]
    assert Model.load(store.get_latest(SENSOR)[0]).meta.parent == published[1]


def test_dry_run_publishes_nothing(config: Config, store: Store):
    outcome = train(SENSOR, config, dry_run=True)
    assert outcome.kind == "refused" and "dry run" in str(outcome)
    assert versions(store) == []


def test_pinned_name_is_kept_as_it_is(config: Config, store: Store, druid: Simulator):
    version = publish_something(store)
    store.pin(SENSOR)
    asked = len(druid.asked)
    assert str(train(SENSOR, config)) == f"kept {version}: the name is pinned"
    assert len(druid.asked) == asked and versions(store) == [version]


def test_name_without_events_is_refused(config: Config):
    outcome = train("nobody", config)
    assert outcome.kind == "refused" and "no event" in str(outcome)


def test_too_few_points_are_refused_with_how_many(config: Config):
    config = replace(config, training=replace(config.training, granularities=("P1D",)))
    outcome = train("new-office", config)
    assert outcome.kind == "refused" and "too little data" in str(outcome) and "P1D" in str(outcome)


def test_same_job_tried_again_after_it_published_does_not_publish_twice(config: Config, store: Store):
    first = train(SENSOR, config, job_id="a-1-slot")
    again = train(SENSOR, config, job_id="a-1-slot")
    assert again.kind == "published" and again.version == first.version
    assert versions(store) == [first.version]
    assert train(SENSOR, config, job_id="a-1-next-slot").version != first.version


def test_race_that_is_lost_keeps_the_winner(config: Config, store: Store):
    winner: list[str] = []
    outcome = train(SENSOR, config, before_publish=lambda: winner.append(publish_something(store)))
    assert outcome.kind == "kept" and "lost the race" in str(outcome) and outcome.version == winner[0]
    assert versions(store) == winner


def test_name_pinned_in_mid_job_is_kept(config: Config, store: Store):
    outcome = train(SENSOR, config, before_publish=lambda: store.pin(SENSOR))
    assert outcome.kind == "refused" and "pinned" in str(outcome)
    assert versions(store) == []


def test_what_before_publish_raises_keeps_the_store_as_it_is(config: Config, store: Store):
    def lost() -> None:
        raise RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        train(SENSOR, config, before_publish=lost)
    assert versions(store) == []


def test_what_progress_raises_ends_the_job(config: Config, store: Store):
    def stop(facts: Any) -> None:
        if facts.get("part", 0) > 0.3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(SENSOR, config, progress=stop)
    assert versions(store) == []


def test_druid_that_is_away_or_fails_may_pass(config: Config, druid: Simulator):
    away = replace(config, druid=replace(config.druid, endpoint="http://127.0.0.1:9/druid/v2/"))
    with pytest.raises(DruidUnreachable):
        train(SENSOR, away)
    druid.faults.status = 500
    with pytest.raises(DruidError):
        train(SENSOR, config)


def test_store_that_is_away_may_pass(config: Config):
    aws = replace(config.aws, hostname="http://127.0.0.1:9", public_key="a", private_key="b", bucket="c")
    with pytest.raises(StoreUnavailable):
        train(SENSOR, replace(config, aws=aws, store=replace(config.store, kind="s3")))


def hole(days_ago: float, hours: float) -> tuple[int, int]:
    start_s = int(time.time() - days_ago * DAY_S) // 3600 * 3600
    return start_s, int(start_s + hours * 3600)


def test_new_hole_is_tried_again_and_keeps_the_version_at_the_last_try(config: Config, store: Store, druid: Simulator):
    version = train(SENSOR, config).version
    druid.faults.uncovered = [hole(3, 12)]
    with pytest.raises(DruidError, match="holds no data for"):
        train(SENSOR, config, last_try=False)
    outcome = train(SENSOR, config)
    assert str(outcome).startswith(f"kept {version}: Druid holds no data for 20")
    assert versions(store) == [version]


def test_first_model_is_trained_on_the_rest_and_says_so_then_the_hole_is_known(
    config: Config, store: Store, druid: Simulator
):
    druid.faults.uncovered = [hole(3, 12)]
    first = train(SENSOR, config)
    assert first.kind == "published" and any("holds no data" in note for note in first.figures["notes"])
    start_s, end_s = druid.faults.uncovered[0]
    assert Model.load(store.get_latest(SENSOR)[0]).meta.validation["uncovered"] == [[start_s, end_s]]
    assert first.figures["points"]["PT1H"] <= 14 * 24 - 12
    assert train(SENSOR, config, last_try=False).kind == "published"


def test_uncovered_time_at_the_start_is_retention_and_only_noted(config: Config, store: Store, druid: Simulator):
    train(SENSOR, config)
    druid.faults.only = lambda query: query["queryType"] == "timeseries"
    druid.faults.uncovered = [(0, int(time.time()) - 10 * DAY_S)]
    outcome = train(SENSOR, config, last_try=False)
    assert outcome.kind == "published" and any("holds no data" in note for note in outcome.figures["notes"])


def test_model_by_name_is_over_its_filter_or_over_everything(config: Config, store: Store, druid: Simulator):
    config = replace(config, outliers=replace(config.outliers, model_names=("traffic", "spain")))
    store.put_filter(
        "spain", {"type": "equals", "column": "namespace", "matchValue": "Spain", "matchValueType": "STRING"}
    )
    assert train("traffic", config).kind == train("spain", config).kind == "published"
    assert Model.load(store.get_latest("traffic")[0]).meta.filter is None
    spain = {"type": "selector", "dimension": "namespace", "value": "Spain"}
    assert Model.load(store.get_latest("spain")[0]).meta.filter == spain


def test_damaged_model_that_serves_is_replaced(config: Config, store: Store):
    publish_something(store)
    outcome = train(SENSOR, config)
    assert outcome.kind == "published" and any("no model" in note for note in outcome.figures["notes"])


def test_backup_that_cannot_be_written_does_not_undo_the_publication(config: Config, store: Store, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    config = replace(config, outliers=replace(config.outliers, backup_path=str(tmp_path / "file")))
    outcome = train(SENSOR, config)
    assert outcome.kind == "published" and any("backup" in note for note in outcome.figures["notes"])


def test_newest_event_ahead_of_the_clock_does_not_stretch_the_past(config: Config, store: Store):
    with Simulator(seed=5, now=time.time() + 7200) as ahead:
        outcome = train(SENSOR, replace(config, druid=replace(config.druid, endpoint=ahead.url)))
    assert outcome.kind == "published" and any("ahead of the clock" in note for note in outcome.figures["notes"])
    assert Model.load(store.get_latest(SENSOR)[0]).meta.trained_to <= time.time()


def write_corrupted(folder: Path) -> None:
    """Two weeks of quarter hours: noise over fourteen powers of ten, then a calm course that it says nothing about."""
    draw, now_s = random.Random(1), int(time.time()) // 900 * 900
    folder.mkdir()
    with gzip.open(folder / "rb_flow.jsonl.gz", "wt") as file:
        for i in range(14 * 96, -1, -1):
            calm = 1e6 * (2 + math.sin((now_s - i * 900) / DAY_S * 2 * math.pi)) * math.exp(draw.gauss(0, 0.05))
            size = int(draw.choice([0, 1e3, 1e12, 5e13])) if i > 14 * 24 else int(calm)
            at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now_s - i * 900))
            event = {"timestamp": at, "sensor_name": SENSOR, "sum_bytes": size, "sum_pkts": size // 500}
            file.write(
                json.dumps({**event, "events": size // 10000 + 1, "client_mac": f"m{draw.randrange(40)}"}) + "\n"
            )


def test_model_trained_on_corrupted_data_is_refused_and_the_good_one_stays(
    config: Config, store: Store, tmp_path: Path
):
    good = train(SENSOR, config)
    write_corrupted(tmp_path / "events")
    config = replace(config, training=replace(config.training, days=14))
    with Simulator(events_dir=str(tmp_path / "events")) as corrupted:
        outcome = train(SENSOR, replace(config, druid=replace(config.druid, endpoint=corrupted.url)))
    assert str(outcome).startswith(f"kept {good.version}: the gate refuses it: PT15M: ")
    assert "times as far off" in str(outcome) and versions(store) == [good.version]


def test_outcome_texts_are_the_contracts():
    assert str(Outcome("published", "v1")) == "published v1"
    assert str(Outcome("kept", "v1", "gate: x")) == "kept v1: gate: x"
    assert str(Outcome("refused", None, "too little data")) == "refused: too little data"
    assert str(Outcome("failed", None, "Druid is down")) == "failed: Druid is down"
    with pytest.raises(ValueError, match="an outcome is one of"):
        Outcome("crashed")


@pytest.mark.parametrize(
    ("name", "seed", "hour"),
    [
        # three days old: its rhythm, learned from three days, once said how its noise changes over a day
        ("new-office", 5, 13),
        ("new-office", 6, 12),
        # a score of 0 in one runtime and of 0.0002 in the other: the root of what float32 cannot hold
        ("quiet-lab", 5, 11),
        ("warehouse", 6, 7),
    ],
)
def test_healthy_sensor_is_published_whatever_the_hour(
    name: str, seed: int, hour: int, config: Config, store: Store
) -> None:
    with Simulator(seed=seed, now=1_764_118_800 + 3600 * hour) as druid:
        asked = replace(
            config,
            druid=replace(config.druid, endpoint=druid.url),
            training=replace(config.training, granularities=("PT5M", "PT1H"), days=Config().training.days),
            outliers=Config().outliers,
        )
        assert train(name, asked, store=store).kind == "published"
