"""A script that runs one program which must not outlive its owner; it must not know what the program is.

    python guardian.py LOG PROGRAM ARGUMENT…

The owner holds the other end of our standard input. When that end goes, closed or because the owner was killed,
the program and everything that it started get SIGKILL. Standard output tells `pid N`, then `exit N`.
Standard library only: it is started outside of any package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_guardian() -> None:
    """Run in the child: whoever kills the guardian itself kills the program too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    log, command = sys.argv[1], sys.argv[2:]
    with open(log, "ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_guardian,
        )
    print("pid", child.pid, flush=True)

    def tell_exit() -> None:
        code = child.wait()
        with contextlib.suppress(BrokenPipeError):
            print("exit", code, flush=True)

    threading.Thread(target=tell_exit, daemon=True).start()
    sys.stdin.read()
    # The group lives on after its leader as long as one of its processes does, so the number is not somebody else's.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    os._exit(0)


if __name__ == "__main__":
    main()
