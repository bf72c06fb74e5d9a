"""`backtest`: known anomalies, and a model that knows what is replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from outliers.__main__ import main
from outliers.druid.simulator import Simulator
from tests.web.asking import DATA, SENSOR, flow_query, rows


def replay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, labels: str, *words: str, file: str = "labels.csv"
) -> dict[str, Any]:
    """Return the report on an hour of data that is ten times as much from 00:40 to 00:45."""
    data = rows([1000 + i % 7 if not 40 <= i < 45 else 10000 for i in range(60)])
    (tmp_path / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / file).write_text(labels, encoding="utf-8")
    code = main(["backtest", "--data", str(tmp_path / "data.json"), "--labels", str(tmp_path / file), *words])
    captured = capsys.readouterr()
    if code:
        return {"code": code, "said": captured.err}
    return json.loads(captured.out) if "--json" in words else {"code": code, "said": captured.out}


LABELS = """start,end,kind
2026-05-01T00:40:00Z,2026-05-01T00:45:00Z,burst
2026-05-01T00:10:00Z,2026-05-01T00:12:00Z,nothing
2026-04-30T23:00:00Z,2026-05-01T00:00:00Z,before
2026-05-01T03:00:00Z,2026-05-01T04:00:00Z,after
"""


def test_label_outside_the_replay_is_no_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = replay(capsys, tmp_path, LABELS, "--json")
    assert [(label["kind"], label["delay_s"], label["outside"]) for label in report["labels"]] == [
        ("burst", 0.0, False), ("nothing", None, False), ("before", None, True), ("after", None, True),
    ]  # fmt: skip
    text = replay(capsys, tmp_path, LABELS)["said"].splitlines()
    assert [line.rpartition(": ")[2] for line in text[-4:]] == [
        "seen after 0 s", "not seen", "outside the replay", "outside the replay",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            "start,end\n2026-05-01T00:45:00Z,2026-05-01T00:40:00Z\n",
            "labels.csv, line 2: the end is not after the start",
        ),
        ("2026-05-01T00:45:00Z,2026-05-01T00:45:00Z\n", "labels.csv, line 1: the end is not after the start"),
        ("2026-05-01T00:45:00Z\n", "labels.csv, line 1: expected start,end[,kind] as ISO times"),
        ("", "labels.csv holds no label"),
        ("start,end,kind\n\n", "labels.csv holds no label"),
    ],
)
def test_labels_that_mean_nothing_are_refused(
    labels: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = replay(capsys, tmp_path, labels)
    assert report["code"] == 2
    assert said in report["said"]


def test_labels_may_begin_with_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(replay(capsys, tmp_path, "\ufeff" + LABELS, "--json")["labels"]) == 4


@pytest.mark.parametrize(("day", "learned"), [("2026-11-20", True), ("2026-11-27", False)])
def test_a_model_that_has_learned_from_what_is_replayed_is_said(
    day: str, learned: bool, simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, query = tmp_path / "config.ini", tmp_path / "query.json"
    config.write_text(f"[Druid]\ndruid_endpoint={simulator.url}\n[Detection]\nstale_s=1e9\n")
    query.write_text(json.dumps(flow_query(f"{day}T12:00:00Z", f"{day}T14:00:00Z")))
    words = ["--config", str(config), "--query", str(query), "--model", str(DATA / f"{SENSOR}.onnx")]
    assert main(["backtest", *words, "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert sum(warning.startswith("The model has learned from this interval (") for warning in warnings) == learned
    assert main(["backtest", *words]) == 0
    out = capsys.readouterr().out
    assert f"model {SENSOR} " in out
    assert ("has learned from this interval (20" in out) == learned
