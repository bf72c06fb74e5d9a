"""One program under our thumb: started, paused, killed, started again; it must not know which program it is."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GUARDIAN = Path(__file__).with_name("guardian.py")


class NotReady(Exception):
    """A server did not come up; the text holds the end of its log."""


def free_ports(count: int) -> list[int]:
    """Find ports on 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Process:
    """A program with its log; dies with us, by whatever we die (guardian.py)."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(each) for each in command]
        self.log = log
        self.cwd = cwd
        self.environ = dict(os.environ if environ is None else environ)
        self.pid = 0
        self.exit_code: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again after it ended; its log is continued."""
        self.close()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._guardian = subprocess.Popen(
            [sys.executable, "-ISE", str(GUARDIAN), str(self.log), *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.cwd,
            env=self.environ,
            start_new_session=True,
            bufsize=0,
        )
        self.exit_code = None
        self.pid = self._told("pid", timeout_s=30) or 0
        if not self.pid:
            raise NotReady(f"{self.command[0]} cannot be started: {self.tail()}")

    def _told(self, word: str, timeout_s: float) -> int | None:
        """Read the guardian's next line if one comes within `timeout_s`: `word` and a number."""
        assert self._guardian is not None and self._guardian.stdout is not None
        if not select.select([self._guardian.stdout], [], [], timeout_s)[0]:
            return None
        line = self._guardian.stdout.readline().decode().split()
        return int(line[1]) if line and line[0] == word else None

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; its exit code (minus the signal that killed it), None while it still runs."""
        if self.exit_code is None and self._guardian is not None:
            self.exit_code = self._told("exit", timeout_s)
        return self.exit_code

    @property
    def running(self) -> bool:
        return self._guardian is not None and self.wait(0) is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone, not to what it started."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(30)

    def close(self) -> None:
        """End it and everything that it started, at once."""
        if self._guardian is None:
            return
        assert self._guardian.stdin is not None and self._guardian.stdout is not None
        self._guardian.stdin.close()
        self._guardian.wait(30)
        self._guardian.stdout.close()
        self._guardian = None

    def tail(self, lines: int = 15) -> str:
        """Give the end of its log, for error messages."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_until(
    ready: Callable[[], bool],
    timeout_s: float,
    what: str,
    processes: Sequence[Process] = (),
    every_s: float = 0.1,
) -> float:
    """Poll until `ready`; the seconds it took. NotReady, with the logs, if time is up or a process ended."""
    begin = time.monotonic()
    while not ready():
        seconds = time.monotonic() - begin
        ended = [each for each in processes if not each.running]
        if ended or seconds > timeout_s:
            why = f"ended ({ended[0].command[0]}, exit code {ended[0].exit_code})" if ended else "time is up"
            tails = "\n".join(f"--- {each.log}\n{each.tail()}" for each in ended or processes)
            raise NotReady(f"{what}: {why} after {seconds:.0f} s\n{tails}")
        time.sleep(every_s)
    return time.monotonic() - begin
