"""`python -m outliers serve` as a process of its own, on a free port, with a configuration file of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import requests

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Executor:
    """A running executor; a context manager that starts it, waits until it is ready, and ends it."""

    def __init__(
        self, folder: Path, endpoint: str = "http://127.0.0.1:9/druid/v2/", **sections: dict[str, Any]
    ) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mirror, self.store = folder / "mirror", folder / "store"
        settings: dict[str, dict[str, Any]] = {
            "OutliersServerProduction": {
                "outliers_binding_address": "127.0.0.1",
                "outliers_server_port": self.port,
                "outliers_server_workers": 2,
            },
            "Druid": {"druid_endpoint": endpoint},
            "Store": {"kind": "directory", "directory": self.store, "mirror": self.mirror, "refresh_s": 1},
        }
        for name, keys in sections.items():
            settings.setdefault(name, {}).update(keys)
        text = "".join(
            f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) for name, keys in settings.items()
        )
        self.config = folder / "config.ini"
        self.config.write_text(text)
        self.log = folder / "log"
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self, wait: bool = True) -> Executor:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outliers", "serve", "--config", str(self.config)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=environment,
            )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            try:
                if requests.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except (requests.ConnectionError, requests.Timeout):
                pass  # the socket is open before a worker reads from it
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s: {self.log.read_text()}")

    def workers(self) -> list[int]:
        """Return the process ids of the workers: the children that serve."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    command = (entry / "cmdline").read_text()
                except OSError:
                    continue
                if int(status[1]) == self.process.pid and "spawn_main" in command and status[0] != "Z":
                    found.append(int(entry.name))
        return sorted(found)

    def end(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self) -> Executor:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
