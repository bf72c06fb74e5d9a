"""`detect`: what its table says of an answer, and what it says of a mistyped command line."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outliers.__main__ import main
from outliers.cli import detect, table
from outliers.config import Config
from outliers.druid.simulator import Simulator
from outliers.store import Mirror, new_version, open_store
from outliers.web.answer import Rows
from tests.web.asking import DATA, SENSOR, flow_query, rows


@pytest.fixture
def config(tmp_path: Path, simulator: Simulator) -> str:
    file = tmp_path / "config.ini"
    file.write_text(
        f"[Druid]\ndruid_endpoint={simulator.url}\n[Detection]\nstale_s=1e9\n[Store]\ndirectory={tmp_path}/store\n"
    )
    return str(file)


def bursts() -> list[dict[str, Any]]:
    """A day by the minute with a burst of 20 minutes from 10:00 on."""
    noise = random.Random(1)
    return rows([round(1000 + noise.gauss(0, 30)) * (4 if 600 <= i < 620 else 1) for i in range(1440)])


def saved(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["detect", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line that a wrong command line is answered with."""
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_stretch_is_shown_by_what_is_furthest_out_and_not_carried() -> None:
    numbers, no, marks = np.zeros(4), np.zeros(4, bool), np.array([False, True, False, False])
    about = Rows(
        timestamps=["a", "b", "c", "d"], actual=np.array([20.0, 1.0, 50.0, 35.0]), forecast=numbers,
        lower=numbers - 1, upper=np.array([1.0, 1.0, 9.0, 1.0]), score=np.array([2.0, 9.0, 3.0, 2.5]),
        flag=~no, carried=marks, direction=np.ones(4, np.int8), partial=no, unfinished=no,
    )  # fmt: skip
    assert table.strongest(about, 0, 3) == 3
    assert table.strongest(about, 0, 1) == 0
    assert table.strongest(about, 1, 1) == 1  # all of it is carried: the largest score


@pytest.mark.parametrize("order", ["descending", "shuffled", "repeated"])
def test_table_does_not_depend_on_how_rows_are_ordered(
    order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bursts()
    expected = told(capsys, "--data", saved(tmp_path / "data.json", found)).splitlines()
    if order == "descending":
        found.reverse()
    elif order == "shuffled":
        random.Random(2).shuffle(found)
    else:
        found += found[600:605]
    shown = told(capsys, "--data", saved(tmp_path / "data.json", found)).splitlines()
    assert [line for line in shown if "repeat a bucket" not in line] == expected
    assert expected[-1].startswith("1440 points, ")


def test_descending_query_is_shown_as_the_ascending_one_is(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = flow_query("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")
    expected = told(capsys, "--config", config, "--query", saved(tmp_path / "q.json", query))
    query["descending"] = True
    assert told(capsys, "--config", config, "--query", saved(tmp_path / "q.json", query)) == expected
    assert "anomalous stretches" in expected and "no rows" not in expected


def test_points_that_were_not_judged_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = bursts()
    for number, row in enumerate(found):
        row["result"] = {"pkts": 10} if 100 <= number < 112 else {**row["result"], "pkts": 10}
    shown = told(capsys, "--data", saved(tmp_path / "data.json", found))
    assert shown.endswith(" of them anomalous, 12 not judged\n")
    assert "not judged" not in told(capsys, "--data", saved(tmp_path / "data.json", bursts()))


def test_no_rows_are_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "--data", saved(tmp_path / "data.json", []))
    assert shown.startswith("no rows: nothing was judged\n")
    assert "anomalous" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is nothing to judge"),
        (["--query", "q3.jsn"], "there is no file q3.jsn, and it is not a query in base64"),
        (["--query", "quer"], "there is no file quer, and it is not a query in base64"),
        (["--query", base64.b64encode(bytes(600)).decode()], "it is not a query in base64"),
        (["--query", "."], "--query . cannot be read: Is a directory"),
        (["--data", "gone.json"], "--data: there is no file gone.json"),
        (["--data", "empty"], "--data empty is empty"),
        (["--data", "plain.csv"], "--data plain.csv is not JSON"),
        (["--query", "plain.csv"], "--query plain.csv is not JSON and is not base64"),
        (["--data", "utf-16.json"], "--data utf-16.json is not UTF-8 text"),
        (["--data", "good.json", "--k", "0"], "'k' must be a number above 0"),
        (["--data", "good.json", "--lead-in", "1d"], "--lead-in 1d must be auto, none or an ISO period such as P1D"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said(
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "plain.csv").write_text("time,bytes\n2026-05-01,1\n")
    (tmp_path / "utf-16.json").write_text(json.dumps(bursts()), encoding="utf-16")
    saved(tmp_path / "good.json", bursts())
    assert said in refused(capsys, "detect", *words)


@pytest.mark.parametrize("verb", ["backtest", pytest.param("train", marks=pytest.mark.trainer)])
def test_a_verb_without_what_it_needs_is_wrong_usage(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, verb)


def test_query_is_read_as_base64_and_from_standard_input(config: str, tmp_path: Path) -> None:
    query = json.dumps(flow_query("2026-11-20T00:00:00Z", "2026-11-20T06:00:00Z")).encode()
    command = [sys.executable, "-m", "outliers", "detect", "--config", config, "--query"]
    piped = subprocess.run([*command, "-"], input=query, capture_output=True, check=True)
    given = subprocess.run([*command, base64.b64encode(query).decode()], capture_output=True, check=True)
    assert piped.stdout == given.stdout != b""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def s3_with_a_model(s3_config: Config, tmp_path: Path) -> Config:
    """A model in S3, and a mirror of it that its service has not refreshed for long."""
    config = dataclasses.replace(s3_config, store=dataclasses.replace(s3_config.store, mirror=str(tmp_path / "mirror")))
    store = open_store(config)
    first = store.publish(SENSOR, new_version(), (DATA / f"{SENSOR}.onnx").read_bytes(), None, None)
    Mirror(store, config.store.mirror).refresh()
    status = tmp_path / "mirror/.status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "finished_at": 0.0}))
    store.publish("branch", new_version(), (DATA / f"{SENSOR}.onnx").read_bytes(), None, None)
    store.publish(SENSOR, new_version(), b"not a model", None, first)
    return config


def test_mirror_that_no_service_refreshes_is_only_read(
    s3_with_a_model: Config, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = Path(s3_with_a_model.store.mirror)
    before = files_of(mirror)
    with detect.served_models(s3_with_a_model) as directory:
        assert Path(directory) != mirror
        assert [path.name for path in Path(directory).glob("*.onnx")] == ["branch.onnx"]  # the other one is damaged
    assert not Path(directory).exists()
    assert files_of(mirror) == before
    assert "not a model" not in caplog.text and "model" in caplog.text


def test_mirror_that_is_fresh_is_asked_itself(s3_with_a_model: Config) -> None:
    mirror = Path(s3_with_a_model.store.mirror)
    Mirror(open_store(s3_with_a_model), str(mirror)).refresh()
    with detect.served_models(s3_with_a_model) as directory:
        assert Path(directory) == mirror


def test_mirror_serves_where_s3_is_down_and_none_is_made(
    s3_with_a_model: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aws = dataclasses.replace(s3_with_a_model.aws, hostname="http://127.0.0.1:9")
    down = dataclasses.replace(s3_with_a_model, aws=aws)
    with detect.served_models(down) as directory:
        assert directory == down.store.mirror
    assert "models may be stale" in caplog.text
    nowhere = dataclasses.replace(down, store=dataclasses.replace(down.store, mirror=str(tmp_path / "none")))
    with detect.served_models(nowhere):
        assert not (tmp_path / "none").exists()
