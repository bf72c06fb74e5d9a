"""Servers that tests and drills start on free loopback ports: a real redis-server, a wire that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import redis


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 60.0, why: str = "what should have happened") -> Any:
    """Return what `condition` returns, as soon as it is true; TimeoutError after so many seconds."""
    until_s = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until_s:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {why}")
        time.sleep(0.05)
    return found


class RedisServer:
    """start() and stop() as often as wanted; `keeps`: whether the data is still there after a restart."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.port = free_port()
        self.keeps = keeps
        self._directory = tempfile.mkdtemp(prefix="redis-")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory,
             "--save", "", "--appendonly", "yes" if self.keeps else "no", "--appendfsync", "always"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        client = redis.Redis(port=self.port)
        for _ in range(200):
            with contextlib.suppress(redis.RedisError):
                client.ping()
                return self
            time.sleep(0.05)
        raise RuntimeError("redis-server did not come up")

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


class Wire:
    """A TCP connection to a port that can be cut, as a switch that fails would: bytes stop, nothing is closed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self._cut.is_set():
                    time.sleep(0.05)
                target.sendall(data)
        for end in (source, target):
            end.close()
