"""The launcher itself: what it starts dies with it, and it says plainly what it cannot have."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.real.servers.fleet import VARIABLES, Fleet, place_of
from tests.real.servers.process import Process, wait_until
from tests.real.servers.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from pathlib import Path
from urllib.parse import quote
from tests.real.servers.process import Process
process = Process(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"], Path(sys.argv[1]))
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, or while it is read
        return False
    return state != "Z"  # ended, and only its parent has not looked yet


def test_no_process_is_left_when_the_run_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(log)], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    program = int(owner.stdout.readline())
    wait_until(lambda: bool(log.read_text()), 10, "the program's own child")
    grandchild = int(log.read_text())
    assert alive(program) and alive(grandchild)
    owner.kill()
    owner.wait()
    wait_until(lambda: not alive(program) and not alive(grandchild), 10, "the end of all processes")
    owner.stdout.close()


def test_a_program_ends_when_its_guardian_is_killed(tmp_path: Path) -> None:
    process = Process(["sleep", "600"], tmp_path / "log")
    process.start()
    guardian = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: not alive(process.pid), 10, "the end of the program")
    process.close()


def test_the_exit_code_is_told_when_a_program_ends_by_itself_or_by_a_signal(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "exit 3"], tmp_path / "log")
    process.start()
    assert process.wait(10) == 3 and not process.running
    process = Process(["sleep", "600"], tmp_path / "log")
    process.start()
    assert process.running
    process.kill()
    assert process.exit_code == -signal.SIGKILL
    process.close()


def test_servers_that_the_environment_names_are_used_and_not_started() -> None:
    environ = {name: f"http://us%65r:a%25b@127.0.0.1:{port}/" for port, name in enumerate(VARIABLES.values(), 1)}
    with Fleet(environ) as fleet:
        for port, kind in enumerate(VARIABLES, 1):
            place = fleet.place(kind)
            assert (place.server, place.missing) == (None, "")
            assert (place.url, place.user, place.secret) == (f"http://127.0.0.1:{port}", "user", "a%b")


def test_a_url_without_credentials_has_none() -> None:
    place = place_of("https://broker.example:8443/")
    assert (place.url, place.host, place.port, place.user) == (
        "https://broker.example:8443",
        "broker.example",
        8443,
        "",
    )


@pytest.mark.parametrize(
    ("kind", "tool"), [("druid", "java"), ("s3", "go"), ("consul", "go"), ("redis", "redis-server")]
)
def test_a_missing_tool_is_named_and_only_its_server_left_out(
    kind: str, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing obtained yet
    monkeypatch.setenv("PATH", str(tmp_path))  # no tool at all
    with Fleet({}) as fleet:
        place = fleet.place(kind)
        assert place.server is None
        assert place.missing.startswith(f"`{tool}` is not installed")


def test_what_a_killed_run_wrote_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    abandoned = tmp_path / "rb-aioutliers-servers" / "runs" / "abandoned"
    (abandoned / "druid").mkdir(parents=True)
    with Fleet({}) as first:
        assert not abandoned.exists()
        with Fleet({}):
            assert first.folder.is_dir()  # a run that is under way keeps what is its own
        assert first.folder.is_dir()
    assert not first.folder.exists()


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty cache and nothing on the PATH; tests put into `bin` what is to be had."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}


@pytest.fixture
def redis_alone(alone: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Redis alone is to be had, so that it is quick."""
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        pytest.skip("`redis-server` is not installed")
    (tmp_path / "bin" / "redis-server").symlink_to(redis_server)
    return alone


Launch = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start the launcher, its words going to `told`; whatever becomes of the test, it is gone in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(environ: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.real.servers", *arguments]
        with open(tmp_path / "told", "w") as told:
            started.append(
                subprocess.Popen(command, cwd=ROOT, env=environ, stdout=told, stderr=told, start_new_session=True)
            )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_servers_for_a_person_tell_what_to_use_and_end_with_their_launcher(
    end: signal.Signals, redis_alone: dict[str, str], launch: Launch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    person = launch(redis_alone)
    wait_until(lambda: "Ctrl-C" in told.read_text(), 30, "the servers")
    text = told.read_text()
    assert "no druid: `java` is not installed" in text and "no consul: `go` is not installed" in text
    port = int(text.partition("rd_port = ")[2].split()[0])
    assert f"export OUTLIERS_TEST_REDIS_URL='redis://:{quote(RedisServer.secret)}@127.0.0.1:{port}'" in text
    assert not refuses(port)
    person.send_signal(end)
    assert person.wait(20) == (-end if end == signal.SIGKILL else 0)
    wait_until(lambda: refuses(port), 10, "the end of Redis")
    if end != signal.SIGKILL:  # after that one, the next run removes what is left
        assert list((tmp_path / "rb-aioutliers-servers" / "runs").iterdir()) == []


def test_a_build_dies_with_its_run_and_the_next_one_starts_afresh(
    alone: dict[str, str], launch: Launch, tmp_path: Path
) -> None:
    cache, go, told = tmp_path / "rb-aioutliers-servers", tmp_path / "bin" / "go", tmp_path / "told"
    go.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec {shutil.which('sleep')} 600\n")
    go.chmod(0o755)
    run = launch(alone, "--obtain")
    wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()), 30, "the build")
    builder = int((tmp_path / "pid").read_text())
    assert alive(builder)
    run.kill()
    run.wait()
    wait_until(lambda: not alive(builder), 10, "the end of the build")
    assert len(list(cache.glob(".minio-*"))) == 1
    go.write_text("#!/bin/sh\necho built\n")
    assert launch(alone, "--obtain").wait(30) == 0
    assert sorted(each.name.partition("-")[0] for each in cache.iterdir() if each.is_dir()) == ["consul", "minio"]
    assert "no druid: `java` is not installed" in told.read_text() and "obtaining minio" in told.read_text()


def test_a_build_that_fails_is_told_with_its_last_words(alone: dict[str, str], launch: Launch, tmp_path: Path) -> None:
    go, told = tmp_path / "bin" / "go", tmp_path / "told"
    go.write_text("#!/bin/sh\necho no network today >&2\nexit 1\n")
    go.chmod(0o755)
    assert launch(alone, "--obtain").wait(30) == 1
    assert "`" + str(go) + " build` failed in minio:\nno network today" in told.read_text()
    assert "Traceback" not in told.read_text()
