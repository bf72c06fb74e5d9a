from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from outliers.config import Config
from outliers.errors import Conflict, NotFound, StoreUnavailable
from outliers.store import Store, new_version, open_store


@pytest.fixture
def store(directory_config: Config) -> Store:
    return open_store(directory_config)


def root_of(config: Config) -> Path:
    return Path(config.store.directory)


def test_layout_is_the_contract(store: Store, directory_config: Config) -> None:
    version = store.publish("Flow.Sensor", "20260101T000000000Z-00000001", b"one", b"w", None).version
    store.put_filter("Flow.Sensor", {})
    store.pin("Flow.Sensor")
    root = root_of(directory_config)
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.name != ".lock"}
    assert files == {
        f"models/Flow%2ESensor/{version}.onnx", f"models/Flow%2ESensor/{version}.pt",
        "latest/Flow%2ESensor.onnx", "latest/Flow%2ESensor_filter.json", "latest/Flow%2ESensor_pin.json",
    }  # fmt: skip
    assert (root / "latest/Flow%2ESensor.onnx").read_bytes() == b"one"


def test_damage_to_what_is_served_leaves_the_version_whole(store: Store, directory_config: Config) -> None:
    version = store.publish("a", new_version(), b"one", None, None).version
    (root_of(directory_config) / "latest/a.onnx").write_bytes(b"damaged")
    assert store.get_version("a", version) == b"one"
    assert store.rollback("a", version).version == version
    assert store.get_latest("a")[0] == b"one"


def test_copy_of_the_whole_directory_knows_its_versions(store: Store, directory_config: Config, tmp_path: Path) -> None:
    version = store.publish("a", new_version(), b"one", None, None).version
    subprocess.run(["cp", "-a", directory_config.store.directory, str(tmp_path / "copy")], check=True)
    from outliers.store.directory import DirectoryFiles

    assert Store(DirectoryFiles(str(tmp_path / "copy")), "directory").head("a").version == version


def test_reader_sees_old_or_new_while_it_is_replaced(store: Store) -> None:
    sizes = {n: bytes([n]) * 200_000 for n in range(1, 6)}
    latest = store.publish("a", new_version(), sizes[1], None, None)
    stop, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            data, about = store.get_latest("a")
            seen.add(data[0])
            if data != sizes[data[0]] or about.size != len(data):
                wrong.append(data[:1])

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(2, 6):
        latest = store.publish("a", new_version(), sizes[n], None, latest)
        time.sleep(0.01)
    stop.set()
    thread.join()
    assert not wrong
    assert 5 in seen


def test_publish_by_two_processes_one_wins(directory_config: Config) -> None:
    code = (
        "import sys; from outliers.config import load_config; from outliers.store import *\n"
        "from outliers.errors import Conflict\n"
        "environ = {'OUTLIERS_STORE__KIND': 'directory', 'OUTLIERS_STORE__DIRECTORY': sys.argv[1]}\n"
        "store = open_store(load_config(None, environ))\n"
        "won = 0\n"
        "for n in range(20):\n"
        "    expected = store.head('a') if 'a' in store.latest() else None\n"
        "    try: store.publish('a', new_version(), b'x' * (n + 1), None, expected); won += 1\n"
        "    except Conflict: pass\n"
        "print(won)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, directory_config.store.directory], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    won = [int(process.communicate(timeout=60)[0]) for process in both]
    assert sum(won) == len(open_store(directory_config).versions("a"))


def test_left_over_temporary_files_are_swept_out(store: Store, directory_config: Config) -> None:
    store.publish("a", new_version(), b"one", None, None)
    stale = root_of(directory_config) / "tmp" / "left"
    stale.write_bytes(b"half")
    store.pin("a")
    assert stale.exists()  # somebody may be writing it
    import outliers.store.directory as directory

    before = directory._STALE_S
    try:
        directory._STALE_S = -1.0
        store.pin("a")
    finally:
        directory._STALE_S = before
    assert not stale.exists()


def test_file_in_place_of_the_directory_is_said(tmp_path: Path) -> None:
    from outliers.store.directory import DirectoryFiles

    (tmp_path / "store").write_text("no directory")
    store = Store(DirectoryFiles(str(tmp_path / "store")), "directory")
    assert store.latest() == {}
    with pytest.raises(StoreUnavailable, match="directory cannot be used"):
        store.pin("a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_directory_without_permission_is_said(store: Store, directory_config: Config) -> None:
    root_of(directory_config).mkdir(mode=0o500)
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        store.pin("a")


def test_full_disk_is_said_and_changes_nothing(store: Store, directory_config: Config) -> None:
    latest = store.publish("a", new_version(), b"one", None, None)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(StoreUnavailable):
            store.publish("a", new_version(), b"x" * 1_000_000, None, latest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert store.get_latest("a")[0] == b"one"
    assert list((root_of(directory_config) / "tmp").iterdir()) == []


def test_delete_of_the_last_version_removes_its_directory(store: Store, directory_config: Config) -> None:
    store.publish("a", new_version(), b"one", b"w", None)
    store.delete("a")
    assert list((root_of(directory_config) / "models").iterdir()) == []
    with pytest.raises(NotFound):
        store.head("a")


def test_directory_store_imports_no_boto3(directory_config: Config) -> None:
    code = (
        "import sys; from outliers.config import Config; from outliers.store import open_store, Mirror;"
        "store = open_store(Config()); store.latest();"
        "print([m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore', 'torch', 'onnx', 'rq', 'redis')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_conflict_in_the_last_step_is_told_by_the_lock(store: Store) -> None:
    first = store.publish("a", new_version(), b"one", None, None)
    with pytest.raises(Conflict):
        store.files.write("latest/a.onnx", b"two", {}, expected=None)
    assert store.files.write("latest/a.onnx", b"two", {}, expected=first.etag).size_bytes == 3
