"""What `make rpm` built: its size, what it needs, an upgrade, a removal, and the whole service run from it."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outliers.druid.simulator import Simulator
from tests.rpm.conftest import CONFIG, PROJECT, Root, package

LARGEST_MB = 120  # the executor without an interpreter
CHEF = (PROJECT / "tests/data/chef_config.ini").read_text()


def size_mb(directory: Path) -> float:
    return sum(p.lstat().st_size for p in directory.rglob("*") if p.is_file()) / 1e6


# --- what is in it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["el7", "el9"])
def test_executor_is_small_and_has_no_training_in_it(empty_root: Root, platform: str) -> None:
    file = package("rb-aioutliers", platform)
    empty_root.install(file)
    home = empty_root.path / "opt/rb-aioutliers"
    installed = size_mb(home / "lib") + size_mb(home / "bin")
    print(f"\n{file.name}: {file.stat().st_size / 1e6:.1f} MB, installed {installed:.1f} MB without interpreter")
    assert installed <= LARGEST_MB
    present = {path.name for path in (home / "lib").iterdir()}
    assert {"outliers", "numpy", "onnxruntime", "flask", "botocore"} <= present
    assert not present & {"torch", "onnx", "rq", "redis", "sympy", "mpmath", "coloredlogs", "pip", "setuptools"}
    services = {path.name for path in (home / "lib/botocore/data").iterdir() if path.is_dir()}
    assert services == {"s3", "sts"}


def test_el7_executor_needs_no_newer_glibc_than_2_17(empty_root: Root) -> None:
    empty_root.install(package("rb-aioutliers", "el7"))
    libraries = [p for p in (empty_root.path / "opt/rb-aioutliers/lib").rglob("*.so*") if p.is_file()]
    assert len(libraries) > 15
    needed: dict[tuple[int, ...], str] = {}
    for library in libraries:
        told = subprocess.run(["readelf", "-V", library], capture_output=True, text=True, check=True).stdout
        for major, minor in re.findall(r"\bGLIBC_(\d+)\.(\d+)", told):
            needed.setdefault((int(major), int(minor)), library.name)
    newest = max(needed)
    print(f"\n{len(libraries)} shared objects need glibc ≤ {newest[0]}.{newest[1]} ({needed[newest]})")
    assert newest <= (2, 17)


@pytest.mark.parametrize("name", ["rb-aioutliers", "rb-aioutliers-trainer"])
def test_package_has_an_example_and_no_configuration(name: str) -> None:
    listed = subprocess.run(["rpm", "-qlp", package(name)], capture_output=True, text=True, check=True).stdout.split()
    assert not [path for path in listed if path.endswith("/config.ini")]
    for path in (
        f"/usr/share/doc/{name}/config.ini.example", f"/usr/bin/{name}", "/opt/rb-aioutliers/resources/src",
        "/usr/lib/tmpfiles.d/rb-aioutliers.conf", "/etc/logrotate.d/rb-aioutliers",
    ):  # fmt: skip
        assert path in listed
    assert not [path for path in listed if re.search(r"/tests?/test_|/pip/|\.a$|botocore/data/ec2", path)]


@pytest.mark.parametrize("name", ["rb-aioutliers", "rb-aioutliers-trainer"])
def test_nothing_is_fetched_when_it_is_installed(name: str) -> None:
    told = subprocess.run(["rpm", "-qp", "--scripts", package(name)], capture_output=True, text=True, check=True)
    assert "useradd -r -g rb-aioutliers" in told.stdout
    assert not re.search(r"pip|curl|wget|yum|dnf", told.stdout)


def test_payloads_are_what_old_rpms_read() -> None:
    for name, wanted in (("rb-aioutliers", "xz"), ("rb-aioutliers-trainer", "gzip")):
        query = ["rpm", "-qp", "--queryformat", "%{PAYLOADCOMPRESSOR}", package(name)]
        assert subprocess.run(query, capture_output=True, text=True, check=True).stdout == wanted


def test_no_build_path_is_left_in_it(empty_root: Root) -> None:
    empty_root.install(package("rb-aioutliers"))
    home = empty_root.path / "opt/rb-aioutliers"
    for path in [*home.glob("bin/*"), *home.glob("lib/outliers/**/*.pyc")]:
        assert b"BUILDROOT" not in path.read_bytes(), path


# --- upgrade and removal --------------------------------------------------------------------------------------------

OLD_SPEC = """
Name: rb-aioutliers
Version: 0.0.1
Release: 1
Summary: what was there before
License: AGPL-3.0-or-later
BuildArch: noarch
%description
An older package of the same name.
%install
mkdir -p %{buildroot}/opt/rb-aioutliers/resources/src %{buildroot}/opt/rb-aioutliers/lib/gone
mkdir -p %{buildroot}/etc/logrotate.d
echo old >%{buildroot}/opt/rb-aioutliers/lib/gone/old.py
echo "/var/log/rb-aioutliers/*.log {}" >%{buildroot}/etc/logrotate.d/rb-aioutliers
%files
/opt/rb-aioutliers
%config(noreplace) /etc/logrotate.d/rb-aioutliers
"""


def test_upgrade_keeps_every_configuration(empty_root: Root, tmp_path: Path) -> None:
    spec = tmp_path / "old.spec"
    spec.write_text(OLD_SPEC)
    subprocess.run(["rpmbuild", "-bb", "--define", f"_topdir {tmp_path}/old", spec], capture_output=True, check=True)
    (old,) = (tmp_path / "old/RPMS/noarch").glob("*.rpm")
    empty_root.install(old)
    changed = {CONFIG: CHEF, "etc/logrotate.d/rb-aioutliers": "# changed here\n"}
    for name, text in changed.items():
        (empty_root.path / name).write_text(text)
    empty_root.install(package("rb-aioutliers"))
    for name, text in changed.items():
        assert (empty_root.path / name).read_text() == text
    assert not (empty_root.path / "opt/rb-aioutliers/lib/gone").exists()
    assert empty_root.rpm("-q", "rb-aioutliers", "--queryformat", "%{VERSION}") != "0.0.1"


def test_removal_leaves_only_what_others_wrote(empty_root: Root) -> None:
    before = empty_root.files()
    empty_root.install(package("rb-aioutliers"))
    (empty_root.path / CONFIG).write_text(CHEF)
    environ = empty_root.environ("rb-aioutliers")
    run = [str(empty_root.path / "opt/rb-aioutliers/bin/rb-aioutliers"), "check", "--offline", "--json"]
    subprocess.run(run, env=environ, capture_output=True, check=False)  # running it must leave nothing behind
    empty_root.rpm("-e", "--nodeps", "--noscripts", "rb-aioutliers")
    assert empty_root.files() - before == {CONFIG}


# --- run ------------------------------------------------------------------------------------------------------------


class Installed:
    """The packages in a root, with the cookbook's file adapted to a simulated broker and an S3 server."""

    def __init__(self, root: Root, druid_url: str, s3_address: str, folder: Path) -> None:
        self.root, self.folder = root, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        text = CHEF
        for key, value in {
            "outliers_binding_address": "127.0.0.1", "outliers_server_port": self.port, "outliers_server_workers": 2,
            "druid_endpoint": druid_url, "log_file": folder / "outliers.log", "s3_hostname": s3_address,
        }.items():  # fmt: skip
            text = re.sub(rf"(?m)^{key}\s*=.*$", f"{key}={value}", text)
        more = f"[Store]\nmirror={folder}/mirror\nrefresh_s=1\n[Training]\ngranularities=PT5M,PT1H\ndays=7\n"
        (root.path / CONFIG).write_text(f"{text}\n{more}")

    def run(self, name: str, *words: str) -> list[str]:
        return self.root.command(f"/opt/{name}/bin/rb-aioutliers", *words)

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the executor as its unit does: the same command, no option, the configuration found by itself."""
        unit = (self.root.path / "usr/lib/systemd/system/rb-aioutliers.service").read_text()
        command = re.search(r"ExecStart=(.*)", unit)
        assert command
        environ = self.root.environ("rb-aioutliers")
        return subprocess.Popen(self.root.command(*command[1].split()), env=environ, cwd=self.folder)

    def get(self, path: str, form: dict[str, str] | None = None) -> Any:
        data = urllib.parse.urlencode(form).encode() if form else None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=60) as answer:
            return json.load(answer)

    def wait_for(self, path: str, wanted: Any, seconds: float = 60) -> Any:
        until = time.monotonic() + seconds
        while True:
            try:
                found = self.get(path)
                if wanted(found):
                    return found
            except (urllib.error.URLError, OSError):
                pass
            assert time.monotonic() < until, (self.folder / "outliers.log").read_text()[-3000:]
            time.sleep(0.2)


@pytest.fixture
def s3_address() -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "AN_ACCESS_KEY", "aws_secret_access_key": "a%secret/with+signs"}
    boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys).create_bucket(Bucket="bucket")
    yield address
    server.stop()


@pytest.fixture
def druid_url() -> Iterator[str]:
    simulator = Simulator()
    yield simulator.start()
    simulator.stop()


@pytest.fixture
def may_mount() -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount: what runs from /opt cannot be tried")


def last_hours(hours: int) -> str:
    now_s = int(time.time()) // 3600 * 3600
    ends = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t)) for t in (now_s - hours * 3600, now_s))
    query = {
        "queryType": "timeseries", "dataSource": "rb_flow", "granularity": "five_minute", "intervals": ["/".join(ends)],
        "filter": {"type": "selector", "dimension": "sensor_name", "value": "hq-madrid"},
        "aggregations": [{"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"}],
    }  # fmt: skip
    return base64.b64encode(json.dumps(query).encode()).decode()


@pytest.mark.usefixtures("may_mount")
@pytest.mark.parametrize("platform", ["el7", "el9"])
def test_executor_answers_from_its_package_with_the_cookbooks_file(
    empty_root: Root, druid_url: str, s3_address: str, tmp_path: Path, platform: str
) -> None:
    empty_root.install(package("rb-aioutliers", platform))
    installed = Installed(empty_root, druid_url, s3_address, tmp_path)
    executor = installed.serve()
    try:
        installed.wait_for("/ready", lambda found: found["status"] == "ready")
        answer = installed.get("/calculate", {"query": last_hours(3)})
        assert (answer["status"], len(answer["prediction"])) == ("success", 36)
        assert answer["model"]["kind"] == "baseline"
        log = (tmp_path / "outliers.log").read_text()
        assert "listening on" in log
        assert "with+signs" not in log
        executor.send_signal(signal.SIGTERM)
        assert executor.wait(30) == 0
    finally:
        executor.kill()
        executor.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("may_mount")
def test_trainer_trains_from_its_package_and_the_executor_serves_its_model(
    empty_root: Root, druid_url: str, s3_address: str, tmp_path: Path
) -> None:
    empty_root.install(package("rb-aioutliers"))
    empty_root.install(package("rb-aioutliers-trainer"))
    print(f"\ntrainer installed: {size_mb(empty_root.path / 'opt/rb-aioutliers-trainer'):.0f} MB")
    installed = Installed(empty_root, druid_url, s3_address, tmp_path)
    trained = subprocess.run(
        installed.run("rb-aioutliers-trainer", "train", "hq-madrid"),
        env=empty_root.environ("rb-aioutliers-trainer"), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr[-3000:]
    executor = installed.serve()
    try:
        installed.wait_for("/api/v1/models", lambda found: "hq-madrid" in json.dumps(found))
        answer = installed.get("/calculate", {"query": last_hours(3)})
        assert (answer["model"]["name"], answer["model"]["kind"]) == ("hq-madrid", "autoencoder")
    finally:
        executor.terminate()
        assert executor.wait(60) == 0
    for name in ("rb-aioutliers-trainer", "rb-aioutliers"):
        empty_root.rpm("-e", "--nodeps", "--noscripts", name)
    assert empty_root.files() == {CONFIG}
