"""This node's copy of what the store serves: `<key>.onnx` files in one flat directory, replaced by rename.

It must not know what is in a model file. One process refreshes, any number reads. Whatever fails, the store, the
disk or a damaged file, what was there before stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from outliers.errors import ModelInvalid, NotFound, StoreError, StoreUnavailable
from outliers.store.base import Latest, Store
from outliers.store.names import Key, name_of

STATE_FILE = ".mirror.json"  # what came from where
STATUS_FILE = ".status.json"  # the last report
_FETCHERS = 8
_STALE_S = 3600.0  # a temporary file this old was left by a process that died


@dataclass(frozen=True)
class MirrorReport:
    """What a refresh did. failed: reason by key; error: why it ended early, "" = it did not."""

    models: int
    fetched: int
    removed: int
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0
    finished_at: float = 0.0  # Unix seconds


@dataclass(frozen=True)
class _Held:
    """listed: what the store's listing said of the file when it was fetched; local: what the disk says of it here."""

    listed: str
    local: str


class Mirror:
    """Keeps `directory` like what `store` serves; for one thread of one process.

    largest_mb: larger files are not fetched. check: called with the path of a fetched file before it replaces the
    last one; raises ModelInvalid where an executor could not serve it.
    """

    def __init__(
        self,
        store: Store,
        directory: str,
        largest_mb: float = float("inf"),
        check: Optional[Callable[[str], object]] = None,
    ) -> None:
        self.store = store
        self.directory = Path(directory)
        self._largest_bytes = largest_mb * 2**20
        self._check = check
        self._refused: dict[Key, tuple[str, str]] = {}  # listed, reason: not fetched again until it changes

    def refresh(self) -> MirrorReport:
        """Fetch what changed, remove what is gone, and tell; never raises for what the store or the disk does."""
        started = time.monotonic()
        held = self._read_state()
        fetched: dict[Key, _Held] = {}
        gone: list[Key] = []
        failed: dict[str, str] = {}
        error = ""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            listing = self.store.latest()
            if held and not listing and not self.store.exists():
                raise StoreUnavailable("the store is empty, without so much as a folder: what is here is kept")
            gone = [key for key in self._keys_here() if key not in listing]
            changed = {key: listed for key, listed in listing.items() if not self._is_here(key, listed, held)}
            self._remove(gone)
            self._fetch_all(changed, fetched, failed)
        except StoreError as problem:
            error = str(problem)
        except OSError as problem:
            error = f"the mirror's directory cannot be written: {_reason(problem)}"
        now = {key: entry for key, entry in held.items() if key not in gone}
        now.update(fetched)
        report = MirrorReport(len(now), len(fetched), len(gone), failed, error, time.monotonic() - started, time.time())
        with contextlib.suppress(OSError):  # told in `error` already; the next refresh fetches again
            if now != held:
                state = {key: [entry.listed, entry.local] for key, entry in now.items()}
                self._replace(STATE_FILE, json.dumps(state, separators=(",", ":")).encode())
            self._replace(STATUS_FILE, json.dumps(dataclasses.asdict(report)).encode())
        return report

    def _fetch_all(self, changed: Mapping[Key, Latest], fetched: dict[Key, _Held], failed: dict[str, str]) -> None:
        """Fetch with some threads; what came is in `fetched`, even where something then ends the refresh."""
        stop = threading.Event()

        def fetch(key: Key) -> None:
            if stop.is_set():
                return
            try:
                fetched[key] = self._fetch(key, changed[key])
            except NotFound:
                pass  # deleted since the listing
            except ModelInvalid as problem:
                failed[key] = str(problem)
            except BaseException:
                stop.set()  # the others would fail as well, each after its time-outs
                raise

        with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="mirror") as pool:
            for _ in pool.map(fetch, sorted(changed)):
                pass

    def _fetch(self, key: Key, listed: Latest) -> _Held:
        stamp = _stamp(listed)
        refused, reason = self._refused.get(key, ("", ""))
        if refused == stamp:
            raise ModelInvalid(reason)
        try:
            if listed.size > self._largest_bytes:
                raise ModelInvalid(
                    f"the model {name_of(key)!r} has {listed.size / 2**20:.1f} MB, more than [Limits] model_mb allows"
                )
            data, _ = self.store.get_latest(key)
            local = self._replace(key + ".onnx", data, self._check)
        except ModelInvalid as problem:
            self._refused[key] = (stamp, str(problem))
            raise
        self._refused.pop(key, None)
        return _Held(stamp, local)

    def _is_here(self, key: Key, listed: Latest, held: Mapping[Key, _Held]) -> bool:
        entry = held.get(key)
        if entry is None or entry.listed != _stamp(listed):
            return False
        try:
            return _local(os.stat(self.directory / f"{key}.onnx")) == entry.local
        except OSError:
            return False

    def _keys_here(self) -> list[Key]:
        """Return what is in the directory; sweeps out what a process that died has left there."""
        keys = []
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.startswith(".tmp-") and time.time() - entry.stat().st_mtime > _STALE_S:
                    os.unlink(entry.path)
                elif entry.name.endswith(".onnx") and not entry.name.startswith("."):
                    keys.append(Key(entry.name[: -len(".onnx")]))
        return keys

    def _remove(self, keys: list[Key]) -> None:
        for key in keys:
            (self.directory / f"{key}.onnx").unlink(missing_ok=True)
            self._refused.pop(key, None)

    def _replace(self, name: str, data: bytes, check: Optional[Callable[[str], object]] = None) -> str:
        """Put `data` there in one step, return what the disk says of it."""
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=self.directory)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                os.fchmod(stream.fileno(), 0o644)
            if check is not None:
                check(temporary)
            local = _local(os.stat(temporary))
            os.replace(temporary, self.directory / name)
            return local
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _read_state(self) -> dict[Key, _Held]:
        try:
            known = json.loads((self.directory / STATE_FILE).read_bytes())
            return {Key(key): _Held(listed, local) for key, (listed, local) in known.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # absent or damaged: everything is fetched again


def last_report(directory: str) -> MirrorReport | None:
    """Return what the last refresh of a mirror did, None before the first; for other processes than the mirror's."""
    try:
        return MirrorReport(**json.loads((Path(directory) / STATUS_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _stamp(listed: Latest) -> str:
    return f"{listed.etag} {listed.size} {listed.modified}"


def _local(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns} {status.st_size}"


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or "it failed"
