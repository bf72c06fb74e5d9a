from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from faulty_s3 import FaultyS3

from outliers.config import Config
from outliers.errors import ModelInvalid, NotFound
from outliers.store import Mirror, Store, last_report, new_version, open_store


def publish(store: Store, name: str, onnx: bytes) -> None:
    try:
        expected = store.head(name)
    except NotFound:
        expected = None
    store.publish(name, new_version(), onnx, b"weights", expected)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def files(here: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in here.iterdir() if not p.name.startswith(".")}


def test_refresh_of_an_empty_store_is_fine(store: Store, here: Path) -> None:
    report = Mirror(store, str(here)).refresh()
    assert (report.models, report.fetched, report.removed, report.failed, report.error) == (0, 0, 0, {}, "")
    assert files(here) == {}


def test_refresh_follows_the_store(store: Store, here: Path) -> None:
    mirror = Mirror(store, str(here))
    for name in ("a", "b", "c.d"):
        publish(store, name, name.encode())
    store.pin("b")
    store.put_filter("b", {})
    assert mirror.refresh().fetched == 3
    assert files(here) == {"a.onnx": b"a", "b.onnx": b"b", "c%2Ed.onnx": b"c.d"}
    untouched = (here / "b.onnx").stat().st_ino

    publish(store, "a", b"a again")
    store.delete("c.d")
    report = mirror.refresh()
    assert (report.models, report.fetched, report.removed) == (2, 1, 1)
    assert files(here) == {"a.onnx": b"a again", "b.onnx": b"b"}
    assert (here / "b.onnx").stat().st_ino == untouched

    store.rollback("a")
    assert mirror.refresh().fetched == 1
    assert files(here)["a.onnx"] == b"a"
    assert mirror.refresh().fetched == 0


def test_refresh_after_a_restart_fetches_nothing_again(store: Store, here: Path) -> None:
    publish(store, "a", b"one")
    Mirror(store, str(here)).refresh()
    report = Mirror(store, str(here)).refresh()
    assert (report.models, report.fetched) == (1, 0)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1}', b"\xff", None])
def test_refresh_with_a_damaged_state_file_fetches_again(store: Store, here: Path, damage: bytes | None) -> None:
    publish(store, "a", b"one")
    Mirror(store, str(here)).refresh()
    state = here / ".mirror.json"
    state.unlink() if damage is None else state.write_bytes(damage)
    assert Mirror(store, str(here)).refresh().fetched == 1
    assert files(here) == {"a.onnx": b"one"}


def test_file_damaged_here_is_fetched_again(store: Store, here: Path) -> None:
    publish(store, "a", b"one")
    publish(store, "b", b"two")
    mirror = Mirror(store, str(here))
    mirror.refresh()
    (here / "a.onnx").write_bytes(b"damaged")
    (here / "b.onnx").unlink()
    (here / "stranger.onnx").write_bytes(b"of no model")
    report = mirror.refresh()
    assert (report.fetched, report.removed) == (2, 1)
    assert files(here) == {"a.onnx": b"one", "b.onnx": b"two"}


def test_refresh_refuses_what_an_executor_cannot_serve_and_keeps_the_last(store: Store, here: Path) -> None:
    checked = []

    def check(path: str) -> None:
        checked.append(path)
        if Path(path).read_bytes() == b"broken":
            raise ModelInvalid("the model is of a newer contract")

    mirror = Mirror(store, str(here), check=check)
    publish(store, "a", b"good")
    mirror.refresh()
    publish(store, "a", b"broken")
    for _ in range(2):
        report = mirror.refresh()
        assert report.failed == {"a": "the model is of a newer contract"}
        assert files(here) == {"a.onnx": b"good"}
    assert len(checked) == 2  # not fetched again until it changes
    publish(store, "a", b"good again")
    assert mirror.refresh().failed == {}
    assert files(here) == {"a.onnx": b"good again"}


def test_refresh_leaves_out_what_is_too_large(store: Store, here: Path) -> None:
    publish(store, "large", b"x" * 2_000_000)
    publish(store, "small", b"x")
    report = Mirror(store, str(here), largest_mb=1).refresh()
    assert "1.9 MB, more than [Limits] model_mb" in report.failed["large"]
    assert list(files(here)) == ["small.onnx"]


def test_refresh_on_a_full_disk_keeps_what_is_here(store: Store, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "a", b"one")
    mirror = Mirror(store, str(here))
    mirror.refresh()
    publish(store, "a", b"two")
    with limited_file_size(1):
        report = mirror.refresh()
    assert report.error.startswith("the mirror's directory cannot be written")
    assert files(here) == {"a.onnx": b"one"}
    assert [p.name for p in here.iterdir() if p.name.startswith(".tmp-")] == []
    assert mirror.refresh().error == ""
    assert files(here) == {"a.onnx": b"two"}


class limited_file_size:
    """Every write beyond some bytes fails, as on a full disk (EFBIG for ENOSPC)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        import resource
        import signal

        self.signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limit[1]))

    def __exit__(self, *_: Any) -> None:
        import resource
        import signal

        resource.setrlimit(resource.RLIMIT_FSIZE, self.limit)
        signal.signal(signal.SIGXFSZ, self.signal)


def test_reason_of_a_full_disk_is_plain() -> None:
    from outliers.store.mirror import _reason

    assert _reason(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"


def test_refresh_while_s3_is_down_keeps_what_is_here(s3_config: Config, here: Path) -> None:
    import dataclasses

    faulty = FaultyS3(s3_config.aws.hostname)
    store = open_store(dataclasses.replace(s3_config, aws=dataclasses.replace(s3_config.aws, hostname=faulty.address)))
    mirror = Mirror(store, str(here))
    for name in "abcdefghijkl":
        publish(store, name, b"one")
    mirror.refresh()
    for name in "abcdefghijkl":
        publish(store, name, b"two")

    faulty.before = lambda h: h.command == "GET" and "list-type" not in h.path and h.refuse(403, "AccessDenied")
    faulty.requests.clear()
    report = mirror.refresh()
    assert "refuses the credentials" in report.error
    assert len(faulty.requests) <= 1 + 8  # given up at the first refusal, not after one for each model
    faulty.before = lambda h: h.refuse(403, "SignatureDoesNotMatch")
    assert "refuses the credentials" in mirror.refresh().error
    assert set(files(here).values()) == {b"one"}
    assert last_report(str(here)).error != ""  # type: ignore[union-attr]

    faulty.before = None
    assert mirror.refresh().fetched == 12
    assert set(files(here).values()) == {b"two"}
    faulty.stop()


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a file"])
def test_refresh_where_the_stores_disk_is_gone_keeps_what_is_here(
    directory_config: Config, here: Path, left: str
) -> None:
    store, disk = open_store(directory_config), Path(directory_config.store.directory)
    publish(store, "a", b"a")
    mirror = Mirror(store, str(here))
    mirror.refresh()
    disk.rename(disk.with_name("elsewhere"))
    if left == "an empty folder":
        disk.mkdir()
    elif left == "a file":
        disk.write_text("")
    for again in (mirror, Mirror(store, str(here))):
        report = again.refresh()
        assert report.removed == 0 and "empty" in report.error and files(here) == {"a.onnx": b"a"}


def test_refresh_of_a_store_whose_models_were_all_deleted_removes_them(store: Store, here: Path) -> None:
    publish(store, "a", b"a")
    mirror = Mirror(store, str(here))
    mirror.refresh()
    store.delete("a")
    assert mirror.refresh().removed == 1 and files(here) == {}


def test_refresh_with_wrong_digest_keeps_the_last_good(s3_config: Config, here: Path) -> None:
    store = open_store(s3_config)
    publish(store, "a", b"one")
    mirror = Mirror(store, str(here))
    mirror.refresh()
    store.files.write("latest/a.onnx", b"torn", {"version": "v", "sha256": "0" * 64}, expected="*")
    report = mirror.refresh()
    assert "digest differs" in report.failed["a"]
    assert files(here) == {"a.onnx": b"one"}


def test_model_deleted_between_listing_and_fetch_is_no_failure(store: Store, here: Path) -> None:
    publish(store, "a", b"one")
    listing = store.latest()
    store.delete("a")
    store.latest = lambda: listing  # type: ignore[method-assign]
    report = Mirror(store, str(here)).refresh()
    assert (report.fetched, report.failed, report.error) == (0, {}, "")


def test_report_is_read_by_other_processes(store: Store, here: Path) -> None:
    assert last_report(str(here)) is None
    publish(store, "a", b"one")
    report = Mirror(store, str(here)).refresh()
    assert last_report(str(here)) == report
    (here / ".status.json").write_text("{")
    assert last_report(str(here)) is None


def test_temporary_files_of_a_dead_process_are_swept_out(store: Store, here: Path) -> None:
    here.mkdir()
    (here / ".tmp-old").write_bytes(b"half")
    (here / ".tmp-new").write_bytes(b"half")
    os.utime(here / ".tmp-old", (0, 0))
    Mirror(store, str(here)).refresh()
    assert [p.name for p in here.iterdir() if p.name.startswith(".tmp-")] == [".tmp-new"]


def test_state_is_plain_json(store: Store, here: Path) -> None:
    publish(store, "a", b"one")
    Mirror(store, str(here)).refresh()
    assert list(json.loads((here / ".mirror.json").read_text())) == ["a"]
