"""The models in memory: found by name and filter, loaded once, dropped by the budget, the last good one kept."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from outliers.errors import ModelInvalid, NotFound
from outliers.infer.cache import MODEL_BYTES, Models, Watcher, read_meta
from outliers.infer.onnx_bytes import read_props
from outliers.store.names import key_of

MODEL = Path(__file__).parents[1] / "data" / "hq-madrid.onnx"
FILTER = {"type": "selector", "dimension": "sensor_name", "value": "hq-madrid"}


class Seen(Watcher):
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def loaded(self, outcome: str) -> None:
        self.counts[outcome] += 1

    def evicted(self) -> None:
        self.counts["evicted"] += 1


def put(mirror: Path, name: str, data: bytes) -> None:
    """As the mirror does it: by rename."""
    temporary = mirror / ".tmp-x"
    temporary.write_bytes(data)
    os.replace(temporary, mirror / f"{key_of(name)}.onnx")


def with_prop(data: bytes, **changed: object) -> bytes:
    """The same file with further `metadata_props`, which count instead of the earlier ones of the same name."""

    def length(number: int) -> bytes:
        return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])

    for name, value in changed.items():
        key, text = name.encode(), json.dumps(value).encode()
        entry = b"\x0a" + length(len(key)) + key + b"\x12" + length(len(text)) + text
        data += b"\x72" + length(len(entry)) + entry
    return data


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    shutil.copy(MODEL, folder / "hq-madrid.onnx")
    return folder


def models_of(mirror: Path, budget_mb: float = 64) -> tuple[Models, Seen]:
    seen = Seen()
    models = Models(str(mirror), budget_mb, seen)
    models.refresh()
    return models, seen


def test_metadata_is_read_without_loading_the_model(mirror: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    assert read_props(MODEL) == session.get_modelmeta().custom_metadata_map
    assert read_meta(MODEL).name == "hq-madrid"


@pytest.mark.parametrize("cut", [0, 1, 10, 1000, -1, -100])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, cut: int):
    path = tmp_path / "cut.onnx"
    path.write_bytes(MODEL.read_bytes()[:cut])
    with pytest.raises(ModelInvalid):
        read_meta(path)


def test_a_model_is_found_by_name_and_by_filter(mirror: Path):
    models, _ = models_of(mirror)
    assert models.knows("hq-madrid") and not models.knows("other") and not models.knows("")
    assert models.serves("hq-madrid", "rb_flow", FILTER)
    assert not models.serves("hq-madrid", "rb_monitor", FILTER)
    assert models.with_filter("rb_flow", FILTER) == "hq-madrid"
    assert models.with_filter("rb_flow", None) is None
    assert [meta.name for meta, _ in models.metas()] == ["hq-madrid"]


def test_of_several_with_one_filter_the_first_by_name_is_given(mirror: Path):
    for name in ("zeta", "alpha", "beta"):
        put(mirror, name, with_prop(MODEL.read_bytes(), name=name, filter=None))
    models, _ = models_of(mirror)
    assert models.with_filter("rb_flow", None) == "alpha"


def test_names_are_never_paths(mirror: Path):
    outside = mirror.parent / "outside.onnx"
    shutil.copy(MODEL, outside)
    models, _ = models_of(mirror)
    for name in ("../outside", str(outside)[:-5], "..", "hq-madrid\x00", "hq-madrid/", "x" * 100_000):
        assert not models.knows(name)
        with pytest.raises(NotFound):
            models.get(name)


def test_many_who_ask_at_once_share_one_load(mirror: Path):
    models, seen = models_of(mirror)
    got: list = []
    threads = [threading.Thread(target=lambda: got.append(models.get("hq-madrid"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 12 and all(model is got[0] for model in got) and seen.counts["ok"] == 1


def test_the_least_recently_used_is_dropped_beyond_the_budget(mirror: Path):
    for name in ("a", "b", "c"):
        put(mirror, name, with_prop(MODEL.read_bytes(), name=name))
    models, seen = models_of(mirror, budget_mb=2.5 * (MODEL_BYTES + MODEL.stat().st_size) / 2**20)
    first = models.get("a")
    models.get("b")
    assert models.get("a") is first
    models.get("c")
    assert seen.counts["evicted"] >= 1
    assert models.get("a") is first, "asked for a moment ago"
    before = seen.counts["ok"]
    models.get("b")
    assert seen.counts["ok"] == before + 1, "was dropped, and is loaded again"


def test_a_new_version_replaces_the_loaded_one(mirror: Path):
    models, _ = models_of(mirror)
    old = models.get("hq-madrid")
    put(mirror, "hq-madrid", with_prop(MODEL.read_bytes(), version="20990101T000000000Z-00000000"))
    assert models.refresh()
    new = models.get("hq-madrid")
    assert new is not old and new.meta.version == "20990101T000000000Z-00000000"


@pytest.mark.parametrize(
    "data",
    [b"", b"not a model", MODEL.read_bytes()[:5000], with_prop(MODEL.read_bytes(), contract=99)],
    ids=["empty", "text", "cut off", "newer contract"],
)
def test_the_last_good_one_is_kept_when_its_file_cannot_be_used(mirror: Path, data: bytes):
    """TRAPS 22: model files were downloaded over the live file."""
    models, seen = models_of(mirror)
    good = models.get("hq-madrid")
    put(mirror, "hq-madrid", data)
    models.refresh()
    models.refresh()
    assert models.get("hq-madrid") is good and models.knows("hq-madrid") and seen.counts["failed"] == 1
    put(mirror, "hq-madrid", with_prop(MODEL.read_bytes(), version="20990101T000000000Z-00000000"))
    models.refresh()
    assert models.get("hq-madrid").meta.version.startswith("2099")


def test_a_removed_model_is_forgotten(mirror: Path):
    models, _ = models_of(mirror)
    models.get("hq-madrid")
    (mirror / "hq-madrid.onnx").unlink()
    models.refresh()
    assert not models.knows("hq-madrid")
    with pytest.raises(NotFound):
        models.get("hq-madrid")


def test_a_file_that_breaks_after_the_look_is_an_error_and_may_come_back(mirror: Path):
    models, _ = models_of(mirror)
    (mirror / "hq-madrid.onnx").unlink()
    with pytest.raises(NotFound):
        models.get("hq-madrid")
    shutil.copy(MODEL, mirror / "hq-madrid.onnx")
    assert models.get("hq-madrid").meta.name == "hq-madrid"


def test_a_mirror_that_is_not_there_is_empty(tmp_path: Path):
    models, _ = models_of(tmp_path / "nothing")
    assert not models.knows("hq-madrid") and list(models.metas()) == []


def test_nothing_is_read_again_where_nothing_changed(mirror: Path):
    models, _ = models_of(mirror)
    os.utime(mirror, (1_700_000_000, 1_700_000_000))
    models.refresh()
    assert models.refresh() is False


def test_models_of_one_graph_share_its_session_and_answer_as_the_whole_file_does(mirror: Path):
    import numpy as np
    import onnxruntime

    from outliers.infer.model import _OUTPUTS, Model, Sessions, _options

    data = MODEL.read_bytes()
    sessions = Sessions()
    one, other = Model.load(data, sessions), Model.load(with_prop(data, name="other"), sessions)
    assert one._session is other._session and other.meta.name == "other"
    whole = onnxruntime.InferenceSession(data, _options(), providers=["CPUExecutionProvider"])
    values = np.random.default_rng(5).lognormal(10, 1, (200, len(one.meta.metrics))).astype(np.float32)
    feed = {
        "timestamp": 1_779_926_400 + 60 * np.arange(200, dtype=np.int64), "step": np.array(60, np.int64),
        "values": values, "k": np.array(1.25, np.float32), "causal": np.array(0, np.int64),
        "first": np.array(0, np.int64),
    }  # fmt: skip
    for mine, theirs in zip(one._session.run(_OUTPUTS, {**feed, **one._numbers}), whole.run(_OUTPUTS, feed)):
        np.testing.assert_array_equal(mine, theirs)
