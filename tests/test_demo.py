"""`make demo`: the whole system as separate processes, on one machine."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.web.test_page import CHROMIUM, dom

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def demo(folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outliers", "demo", "--once", "--port", str(port), "--folder", str(folder)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_demo_finds_what_was_injected_and_little_else(tmp_path: Path, free_port: int) -> None:
    ran = demo(tmp_path, free_port)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 of 3 injected anomalies found" in ran.stdout
    answer = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    assert len(answer["prediction"]) == 1440
    assert answer["model"]["kind"] == "autoencoder"
    # Found is not enough: what an operator is shown must end about when the anomaly does.
    assert len(answer["anomalies"]) <= 25 + 72 + 15 + 12
    assert (tmp_path / "plot.png").stat().st_size > 20_000
    assert "page " not in ran.stdout and "ask again" not in ran.stdout  # nobody would answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_demo_that_stays_up_can_be_asked_again_and_leaves_nobody_behind(
    number: signal.Signals, tmp_path: Path, free_port: int
) -> None:
    command = [sys.executable, "-m", "outliers", "demo", "--port", str(free_port), "--folder", str(tmp_path / "a demo")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            assert process.stdout
            shown = ""
            while not shown.endswith("Everything stays up until Ctrl-C.\n"):
                line = process.stdout.readline()
                assert line, shown
                shown += line
            (page,) = re.findall(r"^  page +(.+)$", shown, re.MULTILINE)
            (again,) = re.findall(r"^  ask again +(.+)$", shown, re.MULTILINE)
            asked = subprocess.run(["bash", "-c", again], stdout=subprocess.PIPE)
            assert len(json.loads(asked.stdout)["prediction"]) == 1440
            (query,) = parse_qs(urlsplit(page).fragment)["query"]
            assert query == (tmp_path / "a demo/query.json").read_text(encoding="utf-8")
            if CHROMIUM:
                assert "1440 points" in dom(page, tmp_path / "browser")
            process.send_signal(number)
            assert process.wait(timeout=60) == 0
            with pytest.raises(ProcessLookupError):  # nobody of its session is left, once init has reaped them
                for _ in range(100):
                    os.killpg(process.pid, 0)
                    time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_demo_says_so_when_its_port_is_taken_by_another_service_that_is_ready(tmp_path: Path) -> None:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) as taken:
        threading.Thread(target=taken.serve_forever, daemon=True).start()
        ran = demo(tmp_path, taken.server_port)
        taken.shutdown()
    assert ran.returncode == 1
    assert "cannot listen" in ran.stderr.splitlines()[-1]
