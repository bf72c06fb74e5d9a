"""The documentation is true: verbs, settings and routes are in the README, and what it shows runs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from outliers.__main__ import ENVIRONMENTS, VERBS
from outliers.config import load_config, settings_table
from outliers.web.openapi import document

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_settings_table_is_the_codes_own() -> None:
    shown = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert shown and shown.group(1) == settings_table()


@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_documented(verb: str) -> None:
    assert re.search(rf"^\| [^|]*`{verb}\b", README, re.MULTILINE)


def test_environments_are_documented() -> None:
    assert [name for name in ENVIRONMENTS if f"`{name}`" not in README] == []


@pytest.mark.parametrize("path", document(with_token=False)["paths"])
def test_route_is_documented(path: str) -> None:
    assert re.search(rf"^\| `(GET|POST) {re.escape(path)}`", README, re.MULTILINE)


def test_every_field_of_a_point_is_documented() -> None:
    schemas = document(with_token=False)["components"]["schemas"]
    fields = {*schemas["Prediction"]["properties"], *schemas["Anomaly"]["properties"]}
    table = re.search(r"^\| field of a point.*?\n\n", README, re.DOTALL | re.MULTILINE)
    assert table and fields <= set(re.findall(r"`(\w+)`", table.group(0)))


def test_make_targets_of_the_documents_exist() -> None:
    makefiles = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
    targets = set(
        re.findall(r"^([a-z0-9-]+):", "\n".join(m.read_text(encoding="utf-8") for m in makefiles), re.MULTILINE)
    )
    named = {
        target
        for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")
        for target in re.findall(r"\bmake ([a-z][a-z0-9-]+)", (ROOT / name).read_text(encoding="utf-8"))
    }
    assert {"demo", "test"} <= named
    assert named - targets == set()


def test_linked_files_exist() -> None:
    assert [link for link in re.findall(r"\]\(([^)#:]+)\)", README) if not (ROOT / link).exists()] == []


def test_configuration_example_is_read(tmp_path: Path) -> None:
    (example,) = blocks("ini")
    path = tmp_path / "config.ini"
    path.write_text(example, encoding="utf-8")
    config = load_config(str(path), {})
    assert (config.server.workers, config.store.kind, config.redis.hostname) == (2, "s3", "redis.service")
    assert config.warnings == ()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An executor on the simulator, as `ENVIRONMENT=test` starts one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("service")
    environment = {
        **os.environ, "ENVIRONMENT": "test", "OUTLIERS_OUTLIERSSERVERTESTING__OUTLIERS_SERVER_PORT": str(port),
        "OUTLIERS_STORE__DIRECTORY": str(folder / "store"), "OUTLIERS_STORE__MIRROR": str(folder / "mirror"),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "outliers"], env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2)
                break
            except OSError:
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("block", [block for block in blocks("sh") if "curl" in block])
def test_example_request_is_answered(block: str, address: str) -> None:
    ran = subprocess.run(["bash", "-ec", block.replace("127.0.0.1:39091", address)], capture_output=True, timeout=60)
    answer = json.loads(ran.stdout)
    assert answer["status"] == "success"
    assert len(answer["prediction"]) > 100
    (example,) = blocks("json")
    shown = json.loads(example)
    assert set(shown) == set(answer)
    assert set(shown["prediction"][0]) == set(answer["prediction"][0])


def test_detect_examples_run(address: str, tmp_path: Path) -> None:
    del address  # the service is not asked; its simulator is not needed either
    rows = [
        {"timestamp": f"2026-11-17T08:{minute:02d}:00.000Z", "result": {"bytes": 1000 + minute}} for minute in range(60)
    ]
    (tmp_path / "answer.json").write_text(json.dumps(rows), encoding="utf-8")
    (block,) = [block for block in blocks("sh") if "rb-aioutliers detect" in block]
    commands = [line.partition("#")[0].strip() for line in block.splitlines() if "--data" in line]
    assert len(commands) == 2
    for command in commands:
        line = command.replace("rb-aioutliers", f"{sys.executable} -m outliers")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
        ran = subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout
    assert (tmp_path / "out.png").stat().st_size > 10_000
