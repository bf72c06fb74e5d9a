"""The systemd units, and what watches them: clean, hardened, and only naming metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "rpm" / "systemd").glob("*.service"))
LARGEST_EXPOSURE = 3.0
# What the base units use, each in systemd 219's manual; hardening.conf is for newer ones.
KNOWN_TO_219 = {
    "Description", "Documentation", "After", "Wants", "ExecStart", "User", "Group", "WorkingDirectory",
    "EnvironmentFile", "Environment", "Restart", "RestartSec", "KillMode", "TimeoutStopSec", "LimitNOFILE", "UMask",
    "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectSystem", "ProtectHome", "CapabilityBoundingSet",
    "RestrictAddressFamilies", "SystemCallArchitectures", "WantedBy",
}  # fmt: skip

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def settings(unit: Path) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")
    return dict(pairs)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are installed, their commands being there."""
    for unit in UNITS:
        text = re.sub(r"ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit.read_text())
        (tmp_path / unit.name).write_text(text)
        (tmp_path / f"{unit.name}.d").mkdir()
        shutil.copy(ROOT / "rpm/systemd/hardening.conf", tmp_path / f"{unit.name}.d")
    return tmp_path


def test_there_are_the_three_units() -> None:
    assert {unit.stem for unit in UNITS} == {"rb-aioutliers", "rb-aioutliers-rq", "rb-aioutliers-train"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_base_unit_has_only_what_systemd_219_knows(unit: Path) -> None:
    assert set(settings(unit)) <= KNOWN_TO_219


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_runs_a_verb_unprivileged_and_sets_no_variable_in_its_command(unit: Path) -> None:
    verbs = {"rb-aioutliers": "serve", "rb-aioutliers-train": "schedule", "rb-aioutliers-rq": "work"}
    found = settings(unit)
    assert re.fullmatch(r"/opt/rb-aioutliers(-trainer)?/bin/rb-aioutliers " + verbs[unit.stem], found["ExecStart"])
    assert (found["User"], found["Group"]) == ("rb-aioutliers", "rb-aioutliers")


def test_stop_time_outs_let_requests_and_jobs_end() -> None:
    from outliers.config import Config
    from outliers.web.supervisor import GRACE_S

    worker = (ROOT / "outliers/train/worker.py").read_text()  # importing it needs rq
    gives_back_s = float(re.search(r"^GRACE_S = (\d+)", worker, re.M)[1])  # type: ignore[index]
    stop_s = {unit.stem: float(settings(unit)["TimeoutStopSec"]) for unit in UNITS}
    assert stop_s["rb-aioutliers"] > Config().server.request_timeout_s + GRACE_S
    assert stop_s["rb-aioutliers-rq"] > gives_back_s


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
@pytest.mark.parametrize("hardened", [True, False], ids=["with drop-in", "base"])
def test_systemd_verifies_the_unit(installed: Path, unit: Path, hardened: bool) -> None:
    if not hardened:
        shutil.rmtree(installed / f"{unit.name}.d")
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(installed / unit.name)], capture_output=True, text=True
    )
    mine = [line for line in told.stderr.splitlines() if unit.stem in line or "hardening" in line]
    assert mine == []
    assert told.returncode == 0, told.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_exposure_with_the_drop_in_is_small(installed: Path, unit: Path) -> None:
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed / unit.name)],
        capture_output=True, text=True,
    )  # fmt: skip
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", told.stdout)
    if exposure is None:
        pytest.skip("this systemd-analyze has no offline security")
    assert float(exposure[1]) <= LARGEST_EXPOSURE


# --- watching -------------------------------------------------------------------------------------------------------


def named_metrics() -> dict[str, set[str]]:
    """Return the metrics that alert rules and dashboard name, by file."""
    rules = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    panels = json.loads((ROOT / "deploy/grafana.json").read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(expressions) > 15
    assert len(shown) > 25
    files = {"deploy/alerts.yml": expressions, "deploy/grafana.json": shown}
    return {file: set(re.findall(r"\boutliers_\w+", " ".join(found))) for file, found in files.items()}


def exported_metrics() -> set[str]:
    """Return the names that executors and trainers export, as Prometheus sees them."""
    from outliers.web.metrics import Metrics

    names = set()
    for family in Metrics()._registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    source = (ROOT / "outliers/train/metrics.py").read_text()  # its figures come from Redis: read from the code
    names |= {f"outliers_training_{name}" for name in re.findall(r"_(?:gauge|family)\(\s*\"(\w+)\"", source)}
    names |= set(re.findall(r"GaugeMetricFamily\(\"(\w+)\"", source))
    return names | {name + "_total" for name in re.findall(r"CounterMetricFamily\(\"(\w+)\"", source)}


@pytest.mark.parametrize("file", ["deploy/alerts.yml", "deploy/grafana.json"])
def test_every_metric_that_is_watched_exists(file: str) -> None:
    assert named_metrics()[file] - exported_metrics() == set()


def test_every_alert_says_what_to_do() -> None:
    rules = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_dashboard_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((ROOT / "deploy/grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed")
def test_logrotate_accepts_its_file(tmp_path: Path) -> None:
    file = tmp_path / "rb-aioutliers"
    text = (ROOT / "rpm/logrotate.conf").read_text()
    file.write_text(text.replace("rb-aioutliers rb-aioutliers", "root root"))
    told = subprocess.run(
        ["logrotate", "--debug", "--state", str(tmp_path / "state"), str(file)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert "error" not in told.stderr
