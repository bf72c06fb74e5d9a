"""The packages of dist/, installed into an empty root that is seen as /opt by what runs from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NAMES = ("rb-aioutliers", "rb-aioutliers-trainer")
CONFIG = "opt/rb-aioutliers/resources/src/config.ini"  # where Chef writes it


def package(name: str, platform: str = "") -> Path:
    """Return the newest package of `name` in dist/; skips the test where there is none, or was not asked for."""
    if not os.environ.get("OUTLIERS_TEST_PACKAGES"):
        pytest.skip("packages are tried by `make test-rpm` ($OUTLIERS_TEST_PACKAGES)")
    found = [p for p in (PROJECT / "dist").glob(f"{name}-[0-9]*{platform}.*.rpm") if ".src." not in p.name]
    if not found:
        pytest.skip(f"no package of {name} {platform} in dist/: `make rpm PLATFORM={platform}` builds it")
    return max(found, key=lambda path: path.stat().st_mtime)


@dataclass(frozen=True)
class Root:
    """An empty root with its own database of packages."""

    path: Path

    def rpm(self, *words: str | Path) -> str:
        """Run rpm on this root; scriptlets and dependencies left out, for there is no distribution in it."""
        told = subprocess.run(["rpm", "--root", self.path, *words], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        return told.stdout

    def install(self, file: Path) -> None:
        self.rpm("-U", "--nodeps", "--noscripts", "--ignorearch", file)

    def files(self) -> set[str]:
        """Return what lies in this root, its database of packages left out."""
        kept = {"var/lib/rpm", "usr/lib/sysimage", "root/.rpmdb"}
        found = set()
        for path in self.path.rglob("*"):
            name = str(path.relative_to(self.path))
            if not any(name.startswith(k) for k in kept) and (path.is_symlink() or not path.is_dir()):
                found.add(name)
        return found

    def command(self, *words: str) -> list[str]:
        """Return the command that runs `words` with this root's /opt in place of the machine's."""
        opt = self.path / "opt"
        inside = f'mount --bind "{opt}" /opt && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", inside, "sh", *words]

    def environ(self, name: str) -> dict[str, str]:
        """Return an environment in which the interpreter that a package names is found on the PATH, and little else."""
        wrapper = (self.path / f"opt/{name}/bin/rb-aioutliers").read_text()
        interpreter = wrapper.rpartition("exec ")[2].split()[0]
        path = os.environ.get("PATH", "")
        if not interpreter.startswith('"'):
            told = subprocess.run([PROJECT / "make/find-python.sh", interpreter], capture_output=True, text=True)
            if told.returncode:
                pytest.skip(told.stderr.strip())
            path = f"{Path(told.stdout.strip()).parent}:{path}"
        kept = {key: os.environ[key] for key in ("HOME", "TMPDIR") if key in os.environ}
        return {**kept, "PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def empty_root(tmp_path: Path) -> Iterator[Root]:
    if not shutil.which("rpm"):
        pytest.skip("rpm is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root may install into another root")
    root = Root(tmp_path / "root")
    root.path.mkdir()
    root.rpm("--initdb")
    yield root
    shutil.rmtree(root.path)  # gigabytes, which pytest would keep
