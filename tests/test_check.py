"""`check`: what it says of a node whose dependencies are there, absent, refused or wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from outliers.__main__ import main
from outliers.druid.simulator import Simulator


@pytest.fixture(scope="module")
def druid_url() -> Iterator[str]:
    simulator = Simulator()
    yield simulator.start()
    simulator.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, *words: str) -> tuple[int, dict[str, str]]:
    """Return the exit code and, by what was checked, the lines that it said."""
    file = tmp_path / "config.ini"
    file.write_text(text)
    code = main(["check", "--config", str(file), "--json", *words])
    told = json.loads(capsys.readouterr().out)
    lines: dict[str, str] = {}
    for each in told["checks"]:
        lines[each["what"]] = lines.get(each["what"], "") + f"{each['state']}: {each['found']} ({each['todo']})\n"
    return code, lines


def ini(tmp_path: Path, druid_url: str, port: int, more: str = "") -> str:
    return (
        f"[OutliersServerProduction]\noutliers_server_port={port}\n[Druid]\ndruid_endpoint={druid_url}\n"
        f"[Store]\ndirectory={tmp_path}/store\nmirror={tmp_path}/mirror\n{more}"
    )


def test_executor_with_all_there_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str, free_port: int
) -> None:
    code, lines = check(tmp_path, capsys, ini(tmp_path, druid_url, free_port))
    assert code == 0, lines
    assert lines["Druid"].startswith("ok: answers; the newest event of rb_flow")
    assert lines["store"] == f"note: {tmp_path}/store does not exist yet (the first training makes it)\n"
    assert "store, writing" not in lines  # an executor only reads
    assert lines["Consul"].startswith("ok: not used")
    assert "onnxruntime" in lines["runtime"]
    assert lines["mirror"].startswith("ok: ")
    assert "WRONG" not in str(lines)


@pytest.mark.parametrize("role", ["executor", pytest.param("trainer", marks=pytest.mark.trainer)])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_made_or_written_on_this_machine(
    role: str, there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str, free_port: int
) -> None:
    text = ini(tmp_path, druid_url, free_port, f"[Outliers]\nbackup_path={tmp_path}/backup\n")
    (tmp_path / "config.ini").touch()
    if there:
        for name in ("store", "mirror", "backup"):
            (tmp_path / name).mkdir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    _, lines = check(tmp_path, capsys, text, "--role", role)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "config.ini"} == {
        path: modified_ns for path, modified_ns in before.items() if path.name != "config.ini"
    }
    said = lines["mirror" if role == "executor" else "store, writing"]
    assert ("does not exist yet: the service makes it" in said) == (not there)
    assert said.startswith("ok: ")


def test_file_in_the_place_of_a_directory_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str, free_port: int
) -> None:
    (tmp_path / "mirror").touch()
    code, lines = check(tmp_path, capsys, ini(tmp_path, druid_url, free_port), "--offline")
    assert (code, lines["mirror"].startswith(f"WRONG: {tmp_path}/mirror is not a directory")) == (1, True)


def test_text_shows_settings_in_force_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str, free_port: int
) -> None:
    file = tmp_path / "config.ini"
    file.write_text(ini(tmp_path, druid_url, free_port, "[Server]\ntoken=hush-hush\n"))
    assert main(["check", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"* [OutliersServerProduction] outliers_server_port = {free_port}\n" in out
    assert "[Limits]" not in out  # all at their defaults
    assert main(["check", "--config", str(file), "--all"]) == 0
    out = capsys.readouterr().out
    assert "    [Limits] points = 50000\n" in out
    assert "* [Server] token = (set)\n" in out
    assert "hush-hush" not in out
    assert "[Redis]" not in out  # an executor uses none
    assert out.endswith("executor: all is well\n")


def test_nothing_there_is_wrong_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], free_port: int
) -> None:
    nobody = f"http://127.0.0.1:{free_port}"
    more = (
        f"[AWS]\ns3_hostname={nobody}\ns3_public_key=a\ns3_private_key=b\ns3_bucket=models\n"
        f"[Consul]\nenabled=true\nport={free_port}\n[Logger]\nlog_file=/proc/nowhere/o.log\n"
    )
    code, lines = check(tmp_path, capsys, ini(tmp_path, nobody + "/druid/v2/", free_port, more))
    assert code == 1
    assert lines["Druid"].startswith("WRONG: Druid cannot be reached")
    assert lines["store"].startswith("WRONG: S3 cannot be reached (correct [AWS]")
    assert lines["Consul"].startswith("WRONG: the Consul agent cannot be reached")
    assert lines["log"].startswith("WRONG: /proc/nowhere/o.log cannot be written")
    assert lines["clock"].startswith("note: nobody told the time")


def test_address_in_use_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, lines = check(tmp_path, capsys, ini(tmp_path, druid_url, taken.getsockname()[1]))
    assert (code, "is in use" in lines["address"]) == (0, True)


def test_address_that_is_not_ours_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str, free_port: int
) -> None:
    text = ini(tmp_path, druid_url, free_port).replace("port=", "port=", 1)
    text = text.replace("[Druid]", "outliers_binding_address=192.0.2.1\n[Druid]")
    code, lines = check(tmp_path, capsys, text, "--offline")
    assert (code, lines["address"].startswith("WRONG: cannot listen on 192.0.2.1")) == (1, True)
    assert "Druid" not in lines


def test_settings_that_mean_nothing_alone_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "[AWS]\ns3_hostname=s3.example\n[Druid]\nuser=us\n"
    _, lines = check(tmp_path, capsys, text, "--offline")
    assert "note: [AWS] s3_hostname is set, but a local directory is the store" in lines["configuration"]
    assert "note: [Druid] user is set without a password" in lines["configuration"]
    _, lines = check(tmp_path, capsys, text.replace("[Druid]", "s3_bucket=b\n[Druid]\npassword=p"), "--offline")
    assert "note" not in lines["configuration"]


def test_wrong_values_are_told_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "[Druid]\ntimeout_s=soon\n[Limits]\npoints=-1\n[Redis]\nrd_port=x\n"
    code, lines = check(tmp_path, capsys, text)
    assert code == 1
    assert lines["configuration"].count("WRONG") == 2
    assert "[Druid] timeout_s = soon must be" in lines["configuration"]


@pytest.mark.trainer
def test_trainer_names_used_twice_and_no_redis_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], druid_url: str, free_port: int
) -> None:
    more = f"[Outliers]\nmodel_names=a,b,hq-madrid\ntarget_sensors=b,c\n[Redis]\nrd_port={free_port}\n"
    code, lines = check(tmp_path, capsys, ini(tmp_path, druid_url, free_port, more), "--role", "trainer")
    assert code == 1
    assert "in model_names and in target_sensors: b" in lines["names"]
    assert "in model_names, but sensors in Druid: hq-madrid" in lines["names"]
    assert lines["Redis"].startswith("WRONG: Redis cannot be reached")
    assert "note: a has no filter (it is trained on the whole data source)" in lines["store"]
    assert "torch" in lines["runtime"]
    assert "address" not in lines
