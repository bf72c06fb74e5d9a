"""`make demo`: the whole system as separate processes, on one machine."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
