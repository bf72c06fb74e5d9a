"""The models that this process can serve: what the mirror holds, by name and by filter, and those loaded in memory.

It must not know where the mirror comes from, nor which model a request ought to get.

The mirror's files are replaced by rename, never written in place, so a file is read whole or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, Optional, Union

from outliers.errors import InvalidRequest, ModelInvalid, NotFound, OutliersError
from outliers.infer.metadata import ModelMeta
from outliers.infer.onnx_bytes import read_props
from outliers.store.names import Key, key_of

# What a loaded model costs beside its numbers, measured by benchmarks.calculate; graphs are shared.
MODEL_BYTES = 100_000
RESOLUTION_NS = 2_000_000_000  # of a directory's modification time, generously
SUFFIX = ".onnx"
_log = logging.getLogger(__name__)


class Watcher:
    """What a cache tells of itself; the default says nothing."""

    def loaded(self, outcome: str) -> None:
        """A load ended: "ok" or "failed"."""

    def evicted(self) -> None:
        """A model was dropped to make room."""

    def state(self, known: int, loaded: int, memory_bytes: int) -> None:
        """How many models are known and loaded, and the memory counted for them."""


class _Stamp(NamedTuple):
    """Tells one version of a file from the next."""

    modified_ns: int
    size: int
    inode: int


class _Known(NamedTuple):
    stamp: _Stamp
    name: str
    data_source: str
    filter: str  # canonical, as JSON text


class _Loaded(NamedTuple):
    stamp: _Stamp
    model: Any
    cost_bytes: int


class Models:
    """Models by name, loaded when first asked for and kept while the budget allows (least recently used goes first).

    Thread-safe. `refresh` belongs to a background thread; no request waits for it.
    """

    def __init__(self, directory: str, budget_mb: float, watcher: Optional[Watcher] = None) -> None:
        self._directory = directory
        self._budget_bytes = int(budget_mb * 2**20)
        self._watcher = watcher or Watcher()
        self._scanned_ns: Optional[int] = None
        self._known: dict[Key, _Known] = {}  # replaced whole, never changed in place
        self._by_filter: dict[tuple[str, str], Key] = {}  # data source and filter -> key of the first name
        self._refused: dict[Key, _Stamp] = {}  # files that cannot be used, so that each is said once
        self._loaded: OrderedDict[Key, _Loaded] = OrderedDict()
        self._loading: dict[Key, Future[_Loaded]] = {}
        self._sessions: Any = None  # made with the first model
        self._lock = threading.Lock()

    # --- what can be served ---------------------------------------------------------------------------------------

    def knows(self, name: str) -> bool:
        """Tell whether a model of this name can be served."""
        try:
            return key_of(name) in self._known
        except InvalidRequest:
            return False

    def serves(self, name: str, data_source: str, canonical_filter: Optional[Mapping[str, Any]]) -> bool:
        """Tell whether the model of this name is one of this data source and filter."""
        known = self._known.get(key_of(name))
        return known is not None and (known.data_source, known.filter) == (data_source, _text(canonical_filter))

    def with_filter(self, data_source: str, canonical_filter: Optional[Mapping[str, Any]]) -> Optional[str]:
        """Return the first name, in order of the alphabet, whose model has this data source and filter."""
        key = self._by_filter.get((data_source, _text(canonical_filter)))
        return self._known[key].name if key in self._known else None

    def metas(self) -> Iterator[tuple[ModelMeta, float]]:
        """Yield what can be served, by name, with the time at which it came here (Unix seconds)."""
        for key, known in sorted(self._known.items(), key=lambda item: item[1].name):
            loaded = self._loaded.get(key)
            try:
                meta = loaded.model.meta if loaded else read_meta(self._path(key))
            except (ModelInvalid, OSError):
                continue  # replaced or removed since the last look: the next one tells
            yield meta, known.stamp.modified_ns / 1e9

    def get(self, name: str) -> Any:
        """Return the loaded model of this name; others who ask for it meanwhile wait for the same load.

        Raises NotFound where there is none, ModelInvalid where its file cannot be used.
        """
        key = key_of(name)
        with self._lock:
            loaded = self._loaded.get(key)
            if loaded is not None:
                self._loaded.move_to_end(key)
                return loaded.model
            if key not in self._known:
                raise NotFound(f"there is no model named {name!r}")
            future = self._loading.get(key)
            first = future is None
            if future is None:
                future = self._loading[key] = Future()
        if first:
            self._load_into(future, key)
        return future.result().model

    # --- keeping up with the mirror -------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Look at the mirror and take over what has changed in it; returns whether anything had.

        A new version of a loaded model is loaded here and then swapped in; where it cannot be used, the last good
        one stays.
        """
        if self._unchanged():
            return False
        known = {}
        for key, stamp in self._files():
            before = self._known.get(key)
            if before is not None and before.stamp == stamp:
                known[key] = before
                continue
            entry = self._examine(key, stamp)
            if entry is not None:
                known[key] = entry
            elif before is not None and key in self._loaded:
                known[key] = before
        by_filter: dict[tuple[str, str], Key] = {}
        for key, entry in sorted(known.items(), key=lambda item: item[1].name):
            by_filter.setdefault((entry.data_source, entry.filter), key)
        self._known, self._by_filter = known, by_filter
        self._replace_loaded(known)
        self._tell()
        return True

    def prepare(self) -> None:
        """Import what loads models, where there are any, so that nobody has to wait for it."""
        if self._known:
            import outliers.infer.model  # noqa: F401

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Look until `stop` is set."""
        while not stop.wait(every_s):
            self.look()

    def look(self) -> None:
        """Refresh, and go on with what is in memory where the mirror cannot be read."""
        try:
            self.refresh()
        except OSError as error:
            _log.warning("the mirror cannot be read: %s", error.strerror)
        except Exception:  # noqa: BLE001 - a watcher that ends would never see a new model again
            _log.exception("the mirror cannot be read")

    # --- parts ----------------------------------------------------------------------------------------------------

    def _unchanged(self) -> bool:
        """A rename changes the directory's own time, which proves nothing within its resolution of now."""
        try:
            modified_ns = os.stat(self._directory).st_mtime_ns
        except FileNotFoundError:
            modified_ns = 0
        unchanged = modified_ns == self._scanned_ns
        self._scanned_ns = modified_ns if time.time_ns() - modified_ns > RESOLUTION_NS else None
        return unchanged

    def _files(self) -> Iterator[tuple[Key, _Stamp]]:
        try:
            with os.scandir(self._directory) as files:
                for file in files:
                    if file.name.endswith(SUFFIX) and not file.name.startswith("."):
                        yield Key(file.name[: -len(SUFFIX)]), _stamp(file.stat())
        except FileNotFoundError:
            return

    def _examine(self, key: Key, stamp: _Stamp) -> Optional[_Known]:
        """Read what a file says of itself; a file that cannot be used is logged once."""
        if self._refused.get(key) == stamp:
            return None
        try:
            meta = read_meta(self._path(key))
        except (ModelInvalid, OSError) as error:
            _log.error("model not taken over: %s", error, extra={"model": key})
            self._refused[key] = stamp
            self._watcher.loaded("failed")
            return None
        return _Known(stamp, meta.name, meta.data_source, _text(meta.filter))

    def _load_into(self, future: Future[_Loaded], key: Key) -> None:
        try:
            loaded = self._load(key)
        except Exception as error:  # noqa: BLE001 - told to all who wait for it, and raised there
            with self._lock:
                del self._loading[key]
            future.set_exception(error)
            return
        with self._lock:
            self._keep(key, loaded)
            del self._loading[key]
        future.set_result(loaded)
        self._tell()

    def _load(self, key: Key) -> _Loaded:
        # onnxruntime takes 0.1 s to import: the first model pays, not the start
        from outliers.infer.model import Model, Sessions

        with self._lock:
            self._sessions = self._sessions or Sessions()
        try:
            with open(self._path(key), "rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                model = Model.load(file.read(), self._sessions)
        except OSError as error:
            self._watcher.loaded("failed")
            raise NotFound("the model is no longer there") from error
        except ModelInvalid:
            self._watcher.loaded("failed")
            raise
        self._watcher.loaded("ok")
        return _Loaded(stamp, model, MODEL_BYTES + stamp.size)

    def _keep(self, key: Key, loaded: _Loaded) -> None:
        """Put a model into memory and drop the least recently used beyond the budget; holds the lock."""
        self._loaded[key] = loaded
        self._loaded.move_to_end(key)
        total = sum(entry.cost_bytes for entry in self._loaded.values())
        while total > self._budget_bytes and len(self._loaded) > 1:
            _, dropped = self._loaded.popitem(last=False)
            total -= dropped.cost_bytes
            self._watcher.evicted()

    def _replace_loaded(self, known: Mapping[Key, _Known]) -> None:
        for key, loaded in list(self._loaded.items()):
            if key not in known:
                with self._lock:
                    self._loaded.pop(key, None)
            elif known[key].stamp != loaded.stamp:
                try:
                    fresh = self._load(key)
                except OutliersError as error:
                    _log.error("model kept at its last good version: %s", error, extra={"model": known[key].name})
                    continue
                with self._lock:
                    if key in self._loaded:
                        self._loaded[key] = fresh

    def _tell(self) -> None:
        with self._lock:
            costs = [entry.cost_bytes for entry in self._loaded.values()]
        self._watcher.state(len(self._known), len(costs), sum(costs))

    def _path(self, key: Key) -> str:
        return os.path.join(self._directory, key + SUFFIX)


def read_meta(path: Union[str, os.PathLike[str]]) -> ModelMeta:
    """Read what a model file says of itself; ModelInvalid where this executor cannot serve it, OSError unread."""
    return ModelMeta.from_props(read_props(path))


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def _text(canonical_filter: Optional[Mapping[str, Any]]) -> str:
    return json.dumps(canonical_filter, sort_keys=True)
