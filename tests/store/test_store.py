"""What holds for a store of any kind."""

from __future__ import annotations

import hashlib
import threading

import pytest

from outliers.config import Config
from outliers.errors import Conflict, InvalidRequest, ModelInvalid, NotFound
from outliers.store import Key, Latest, Store, key_of, new_version, open_store


def publish(store: Store, name: str, onnx: bytes, weights: bytes | None = None) -> Latest:
    try:
        expected: Latest | None = store.head(name)
    except NotFound:
        expected = None
    return store.publish(name, new_version(), onnx, weights, expected)


def test_publish_first_version_serves_it(store: Store) -> None:
    published = publish(store, "FlowSensor", b"one", b"weights")
    data, latest = store.get_latest("FlowSensor")
    assert data == b"one"
    assert latest.version == published.version
    assert latest.sha256 == published.sha256 == hashlib.sha256(b"one").hexdigest()
    assert store.get_version("FlowSensor", published.version) == b"one"
    assert store.get_weights("FlowSensor", published.version) == b"weights"
    assert [v.version for v in store.versions("FlowSensor")] == [published.version]


def test_publish_name_with_slash_and_dots_stays_inside(store: Store) -> None:
    publish(store, "../../a/b", b"one")
    assert store.get_latest("../../a/b")[0] == b"one"
    assert list(store.latest()) == ["%2E%2E%2F%2E%2E%2Fa%2Fb"]


def test_publish_second_version_replaces_the_first(store: Store) -> None:
    first = publish(store, "a", b"one")
    second = publish(store, "a", b"two")
    assert store.get_latest("a")[0] == b"two"
    assert store.head("a").version == second.version
    assert store.get_version("a", first.version) == b"one"


def test_publish_same_bytes_again_is_another_version(store: Store) -> None:
    first, second = publish(store, "a", b"same"), publish(store, "a", b"same")
    assert first.version != second.version
    assert store.head("a").version == second.version
    assert store.rollback("a").version == first.version == store.head("a").version


@pytest.mark.parametrize("stale", [False, True])
def test_publish_after_somebody_else_is_a_conflict_and_leaves_nothing(store: Store, stale: bool) -> None:
    first = publish(store, "a", b"one")
    second = publish(store, "a", b"two")
    version = new_version()
    with pytest.raises(Conflict, match="published first"):
        store.publish("a", version, b"three", b"w", first if stale else None)
    assert store.get_latest("a")[0] == b"two"
    assert [v.version for v in store.versions("a")] == [first.version, second.version]
    with pytest.raises(NotFound):
        store.get_weights("a", version)


def test_publish_of_a_version_that_exists_leaves_that_version(store: Store) -> None:
    first = publish(store, "a", b"one", b"w")
    with pytest.raises(Conflict):
        store.publish("a", first.version, b"other", b"other", store.head("a"))
    assert store.get_version("a", first.version) == b"one"
    assert store.get_weights("a", first.version) == b"w"


@pytest.mark.parametrize("first", [True, False])
def test_publish_by_many_at_once_exactly_one_wins(config: Config, first: bool) -> None:
    expected = None if first else publish(open_store(config), "a", b"zero")
    barrier, outcomes = threading.Barrier(6), []

    def trainer(number: int) -> None:
        own = open_store(config)
        own.latest()
        barrier.wait()
        try:
            own.publish("a", new_version(), f"model {number}".encode(), None, expected)
            outcomes.append(number)
        except Conflict:
            pass

    threads = [threading.Thread(target=trainer, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_store(config)
    assert len(outcomes) == 1
    assert store.get_latest("a")[0] == f"model {outcomes[0]}".encode()
    assert len(store.versions("a")) == (1 if first else 2)


def test_publish_of_a_pinned_name_is_a_conflict(store: Store) -> None:
    first = publish(store, "a", b"one")
    store.pin("a")
    with pytest.raises(Conflict, match="pinned"):
        store.publish("a", new_version(), b"two", None, first)
    store.unpin("a")
    assert publish(store, "a", b"two").version == store.head("a").version


def test_rollback_by_default_goes_one_back_and_again(store: Store) -> None:
    first, second, third = (publish(store, "a", data) for data in (b"one", b"two", b"three"))
    assert store.rollback("a").version == second.version
    assert store.get_latest("a")[0] == b"two"
    assert store.rollback("a").version == first.version
    with pytest.raises(NotFound, match="no version before"):
        store.rollback("a")
    assert store.rollback("a", third.version).version == third.version
    assert store.get_latest("a") == (b"three", store.get_latest("a")[1])


def test_rollback_tells_when_it_happened(store: Store) -> None:
    publish(store, "a", b"one")
    second = publish(store, "a", b"two")
    assert store.rollback("a").modified >= int(second.modified)


def test_rollback_after_delete_of_latest_serves_the_newest(store: Store) -> None:
    publish(store, "a", b"one")
    second = publish(store, "a", b"two")
    store.files.remove(["latest/a.onnx"])
    assert store.rollback("a").version == second.version


@pytest.mark.parametrize("version", ["20200101T000000000000Z-00000000", "nope"])
def test_rollback_to_an_unknown_version_is_not_found(store: Store, version: str) -> None:
    publish(store, "a", b"one")
    with pytest.raises(NotFound, match="no version"):
        store.rollback("a", version)
    with pytest.raises(InvalidRequest):
        store.rollback("a", "../../latest/a")


def test_unknown_name_is_not_found_everywhere(store: Store) -> None:
    for ask in (store.head, store.get_latest, store.delete, store.rollback):
        with pytest.raises(NotFound, match="nobody"):
            ask("nobody")
    assert store.latest() == {}
    assert store.versions("nobody") == []
    assert store.filter("nobody") is None
    assert not store.pinned("nobody")
    assert store.prune("nobody", 1) == []


def test_prune_keeps_the_newest_and_the_served(store: Store) -> None:
    all_of = [publish(store, "a", str(n).encode(), b"w") for n in range(6)]
    store.rollback("a", all_of[1].version)
    removed = store.prune("a", 2)
    assert removed == [v.version for v in (all_of[0], all_of[2], all_of[3])]
    assert [v.version for v in store.versions("a")] == [v.version for v in (all_of[1], all_of[4], all_of[5])]
    assert store.get_latest("a")[0] == b"1"
    with pytest.raises(NotFound):
        store.get_weights("a", all_of[0].version)


def test_prune_of_a_pinned_name_removes_nothing(store: Store) -> None:
    for n in range(3):
        publish(store, "a", str(n).encode())
    store.pin("a")
    assert store.prune("a", 1) == []
    assert len(store.versions("a")) == 3


def test_pins_are_listed_by_key(store: Store) -> None:
    store.pin("a.b")
    store.pin("c")
    store.unpin("c")
    store.unpin("never")
    assert store.pins() == {key_of("a.b")}
    assert store.pinned("a.b")
    assert not store.pinned("c")


def test_filter_is_what_was_put(store: Store) -> None:
    wanted = {"type": "selector", "dimension": "application_id_name", "value": "dns ñ"}
    store.put_filter("traffic", {"type": "old"})
    store.put_filter("traffic", wanted)
    assert store.filter("traffic") == wanted


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_filter_that_is_none_is_said(store: Store, content: bytes) -> None:
    store.files.write("latest/traffic_filter.json", content, {}, expected="*")
    with pytest.raises(ModelInvalid, match="filter of 'traffic'"):
        store.filter("traffic")


def test_delete_removes_all_of_one_name_only(store: Store) -> None:
    for name in ("a", "ab", "a_filter"):
        publish(store, name, b"one", b"w")
        store.pin(name)
        store.put_filter(name, {})
    store.delete("a")
    assert set(store.latest()) == {"ab", "a_filter"}
    assert store.versions("a") == []
    assert store.filter("a") is None
    assert store.pins() == {"ab", "a_filter"}
    assert store.get_latest("ab")[0] == b"one"


def test_files_of_the_old_service_are_never_touched(store: Store) -> None:
    for suffix in (".keras", ".ini"):
        store.files.write(f"latest/traffic{suffix}", b"old", {}, expected="*")
    publish(store, "traffic", b"one")
    assert list(store.latest()) == ["traffic"]
    store.delete("traffic")
    assert store.latest() == {}
    assert sorted(store.files.list("latest/")) == ["latest/traffic.ini", "latest/traffic.keras"]


def test_latest_has_names_that_were_cut(store: Store) -> None:
    long = "ñ" * 200
    publish(store, long, b"one")
    (key,) = store.latest()
    assert isinstance(key, Key)
    assert store.get_latest(key)[0] == store.get_latest(long)[0] == b"one"


def test_file_put_there_by_hand_is_served_with_a_version_of_its_own(store: Store) -> None:
    store.files.write("latest/hand.onnx", b"made elsewhere", {}, expected="*")
    data, latest = store.get_latest("hand")
    assert data == b"made elsewhere"
    assert latest.version.startswith("unversioned-")
    publish(store, "hand", b"trained")
    assert store.get_latest("hand")[0] == b"trained"


def test_probe_leaves_nothing(store: Store) -> None:
    assert store.probe() is True
    assert store.files.list("check/") == {}
    store.files.conditional = False
    if store.what == "S3":
        assert store.probe() is False
