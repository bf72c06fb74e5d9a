"""`make bench`: every benchmark of speed, one after the other, each with the command that repeats it."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("benchmarks.calculate", "benchmarks.train", "benchmarks.real_druid")


def main() -> int:
    """Run them all; 1 if any failed."""
    failed = []
    for name in BENCHMARKS:
        print(f"\n== python -m {name}", flush=True)
        if subprocess.run([sys.executable, "-m", name], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
