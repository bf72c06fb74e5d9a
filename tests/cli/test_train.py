"""`train` by hand: what it says and exits with, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from outliers.__main__ import main
from outliers.druid.simulator import Simulator

pytestmark = pytest.mark.trainer
pytest.importorskip("torch")

SENSOR = "quiet-lab"


@pytest.fixture(scope="module")
def druid() -> Iterator[Simulator]:
    with Simulator(seed=5) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, druid: Simulator) -> str:
    """One coarse granularity over a week: a job of a second or two."""
    file = tmp_path / "config.ini"
    file.write_text(
        f"[Druid]\ndruid_endpoint={druid.url}\n[Store]\ndirectory={tmp_path}/store\n"
        "[Training]\ngranularities=PT15M\ndays=7\n[Outliers]\nepochs=2\n"
    )
    return str(file)


def test_a_name_without_events_is_refused_and_a_script_can_tell(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", config, "nobody"]) == 1
    assert capsys.readouterr().out.startswith("nobody: refused: rb_flow holds no event")


def test_dry_run_that_passed_is_a_success(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", config, "--dry-run", SENSOR]) == 0
    assert capsys.readouterr().out == f"{SENSOR}: passed every check; a dry run publishes nothing\n"
    assert main(["train", "--config", config, "--dry-run", "--json", SENSOR]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["text"]) == ("passed", "passed every check; a dry run publishes nothing")
    assert not (tmp_path / "store").exists()


def test_dry_run_that_did_not_pass_exits_1_where_a_version_serves_too(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", config, SENSOR]) == 0
    too_coarse = Path(config).read_text().replace("PT15M", "P1D")
    Path(config).write_text(too_coarse)
    assert main(["train", "--config", config, SENSOR]) == 0  # what serves goes on serving
    assert main(["train", "--config", config, "--dry-run", SENSOR]) == 1
    assert "kept " in capsys.readouterr().out.splitlines()[-1]
