"""Gets each server's program once, from its package registry, into a cache; it must not know how one is started."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.servers.process import Process

LONGEST_S = 1800
RECIPES = Path(__file__).parents[1]  # druid/pom.xml, minio/go.mod, consul/go.mod


class ToolMissing(Exception):
    """A server cannot be had here; the sentence says what to install."""


class ObtainFailed(Exception):
    """The tools are there but a server could not be fetched or built; the text holds the tool's last words."""


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rb-aioutliers-servers"


def need(tool: str, provided_by: str) -> str:
    """Find `tool` on the PATH."""
    found = shutil.which(tool)
    if found is None:
        raise ToolMissing(f"`{tool}` is not installed ({provided_by})")
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock: two runs on one machine must not build the same thing at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def obtain(name: str, recipe: list[Path], tool: tuple[str, str], build: Callable[[str, Path], None]) -> Path:
    """Give the folder that `build` filled, with the tool that it needs, for exactly this recipe; only once."""
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in recipe)).hexdigest()[:12]
    cache = cache_folder()
    folder = cache / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    with locked(cache / f"{name}.lock"):
        if not folder.is_dir():
            found = need(*tool)
            print(f"obtaining {name}, once, into {folder}: ", end="", flush=True)
            begin = time.monotonic()
            for abandoned in cache.glob(f".{name}-*"):  # by a run that was killed: only who holds the lock builds
                shutil.rmtree(abandoned, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as unfinished:
                target = Path(unfinished) / "built"
                target.mkdir()
                build(found, target)
                target.rename(folder)
            print(f"{time.monotonic() - begin:.0f} s", flush=True)
    return folder


def run(command: list[str], cwd: Path, target: Path) -> None:
    """Run a build tool that fills `target`; it dies with us, and its output is shown only if it fails."""
    process = Process(command, target.with_name("log"), cwd=cwd)
    try:
        process.start()
        code = process.wait(LONGEST_S)
    finally:
        process.close()
    if code != 0:
        why = f"still ran after {LONGEST_S} s" if code is None else "failed"
        raise ObtainFailed(f"`{' '.join(command[:2])}` {why} in {cwd.name}:\n{process.tail(30)}")


def druid_jars() -> Path:
    """Obtain the folder with Druid's jars: 183 MB from Maven Central."""
    need("java", "a JDK 17, e.g. Debian's openjdk-17-jdk-headless")
    recipe = RECIPES / "druid"

    def build(mvn: str, target: Path) -> None:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        run([mvn, "-q", "-B", "-f", "pom.xml", *goal], recipe, target)

    return obtain("druid", [recipe / "pom.xml"], ("mvn", "Maven, e.g. Debian's maven"), build)


def go_program(name: str, package: str) -> Path:
    """Obtain a Go program, compiled by its module in this folder (needs about three minutes of two cores)."""
    recipe = RECIPES / name

    def build(go: str, target: Path) -> None:
        run([go, "build", "-buildvcs=false", "-ldflags=-s -w", "-o", str(target), package], recipe, target)

    tool = ("go", "Go 1.24 or newer, from go.dev")
    return obtain(name, [recipe / "go.mod", recipe / "go.sum"], tool, build) / name


def minio_program() -> Path:
    return go_program("minio", "github.com/minio/minio")


def consul_program() -> Path:
    return go_program("consul", "github.com/hashicorp/consul")


def redis_program() -> Path:
    return Path(need("redis-server", "Redis, e.g. Debian's redis-server"))
