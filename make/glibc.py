"""make/glibc.py VERSION DIR: say which shared objects below DIR need a newer glibc than VERSION; fail if any does.

The versions that an object needs are plain text in it (GLIBC_2.14, …), as `readelf -V` would show them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def needed(path: Path) -> tuple[int, ...]:
    """Return the newest version of glibc that a shared object names, () where it names none."""
    found = re.findall(rb"GLIBC_(\d+(?:\.\d+)+)\0", path.read_bytes())
    return max((tuple(map(int, version.split(b"."))) for version in found), default=())


def main() -> int:
    most = tuple(map(int, sys.argv[1].split(".")))
    objects = sorted(path for path in Path(sys.argv[2]).rglob("*.so*") if path.is_file())
    newer = {path: version for path in objects if (version := needed(path)) > most}
    for path, version in newer.items():
        print(f"{path} needs glibc {'.'.join(map(str, version))}", file=sys.stderr)
    print(f"{len(objects)} shared objects, {len(newer)} need a glibc newer than {sys.argv[1]}")
    return 1 if newer or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
