"""`simulate` as a process: what it serves, how it ends, and what it says of folders and ports it cannot use."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.druid.conftest import DATA

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "outliers", "simulate"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_files_of_events_are_served_until_it_is_told_to_end(end: signal.Signals) -> None:
    command = [*COMMAND, "--port", "0", "--events", str(DATA)]
    query = {
        "queryType": "timeseries",
        "dataSource": "rb_flow",
        "granularity": {"type": "period", "period": "P1D", "timeZone": "Europe/Madrid"},
        "intervals": "2025-10-25/2025-11-12",
        "aggregations": [{"type": "longSum", "name": "flows", "fieldName": "events"}],
        "context": {"uncoveredIntervalsLimit": 9, "grandTotal": True},
    }
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            assert simulator.stdout is not None
            url = simulator.stdout.readline().split()[-1]
            answer = requests.post(url, json=query, timeout=30)
            refused = requests.post(url, json={**query, "granularity": "fortnight"}, timeout=30)
            simulator.send_signal(end)
            assert simulator.wait(30) == 0
        finally:
            simulator.kill()
    rows = answer.json()
    assert [row["timestamp"] for row in rows[:3]] == [
        "2025-10-25T00:00:00.000+02:00",
        "2025-10-26T00:00:00.000+02:00",  # the day of 25 hours
        "2025-10-27T00:00:00.000+01:00",
    ]
    assert rows[-1] == {"timestamp": None, "result": {"flows": sum(row["result"]["flows"] for row in rows[:-1])}}
    told = json.loads(answer.headers["X-Druid-Response-Context"])
    assert told["uncoveredIntervals"] == ["2025-11-10T00:00:00.000Z/2025-11-12T00:00:00.000Z"]
    assert (refused.status_code, refused.json()["errorClass"].rpartition(".")[2]) == (
        500,
        "ValueInstantiationException",
    )


def test_a_folder_without_events_or_a_port_in_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    for options, sentence in (
        (["--events", str(tmp_path)], "the folder of events holds no file"),
        (["--events", str(tmp_path / "nowhere")], "the folder of events cannot be read"),
        (["--host", "192.0.2.1", "--port", "0"], "the simulator cannot listen on port 0"),
    ):
        done = subprocess.run([*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"rb-aioutliers: {sentence}") and done.stderr.count("\n") == 1
