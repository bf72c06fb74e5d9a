"""The store of models: its layout and its rules, over files that a directory or S3 keeps; it must not know which.

    models/<key>/<version>.onnx     immutable; versions sort by time
    models/<key>/<version>.pt       weights to continue training from
    latest/<key>.onnx               what executors serve: a copy of one version, replaced last, in one step
    latest/<key>_filter.json        Druid filter of a model that is not one sensor
    latest/<key>_pin.json           present = pinned: neither training nor pruning touches the name

`.keras` and `.ini` under latest/ belong to the service that this one replaces, and are never touched.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol
from urllib.parse import quote

from outliers.errors import Conflict, ModelInvalid, NotFound
from outliers.store.names import Key, checked_version, key_of, name_of

ANYTHING = "*"  # `expected` of a write that replaces whatever is there


@dataclass(frozen=True)
class File:
    """etag: opaque, changes with the content; two files of one etag are the same. modified: Unix seconds."""

    etag: str
    size_bytes: int
    modified: float
    metadata: Mapping[str, str] = field(default_factory=dict)


class Files(Protocol):
    """Files by path (segments joined by "/"). Every method raises StoreUnavailable where the place refuses or fails."""

    conditional: bool  # whether the place itself sees to it that of two conditional writes one wins

    def list(self, prefix: str) -> dict[str, File]:
        """Return what lies directly under `prefix` (ends in "/"), by path; metadata may be left out."""

    def exists(self) -> bool:
        """Tell whether anything was ever put here: a disk that is not mounted looks like an empty place."""

    def stat(self, path: str) -> File:
        """Raises NotFound."""

    def read(self, path: str) -> tuple[bytes, File]:
        """Return the whole content. Raises NotFound."""

    def write(
        self, path: str, data: bytes, metadata: Mapping[str, str], expected: Optional[str], twin: str = ""
    ) -> File:
        """Put `data` there in one step, if what is there has the etag `expected` (None = nothing is; or ANYTHING).

        twin: path of a file with the same content, so that both get one etag. Raises Conflict.
        """

    def remove(self, paths: Iterable[str]) -> None:
        """Remove these; what is not there is fine."""


@dataclass(frozen=True)
class Latest:
    """What is known of what a name serves.

    version: "" where it comes from a listing of S3, which lists no metadata.
    sha256: "" where the content was not read and the place keeps none.
    etag: opaque, changes whenever the content does. modified: Unix seconds of the last publish or rollback.
    """

    version: str
    sha256: str
    etag: str
    size: int
    modified: float


@dataclass(frozen=True)
class Stored:
    """One immutable version of a model. size: bytes. modified: Unix seconds."""

    version: str
    size: int
    modified: float
    has_weights: bool


class Store:
    """Models by name. Names are any text; a `Key` from a listing is taken as well.

    Every method raises StoreUnavailable when the store cannot be reached or refuses, NotFound for what is not there.
    """

    def __init__(self, files: Files, what: str) -> None:
        """what: the kind of place in words, for people ("directory", "S3")."""
        self.files = files
        self.what = what

    # -- what is served ------------------------------------------------------------------------------------------

    def latest(self) -> dict[Key, Latest]:
        """List what is served: one cheap listing however many models there are; versions and digests are left out."""
        return {
            Key(key): Latest("", "", file.etag, file.size_bytes, file.modified)
            for key, file in self._listed("latest/", ".onnx").items()
        }

    def exists(self) -> bool:
        """Tell whether the store is there at all; one from which every model was deleted is."""
        return self.files.exists()

    def head(self, name: str) -> Latest:
        """Return what is known of what `name` serves without reading it."""
        key = key_of(name)
        return self._latest_of(key, self._known(self.files.stat, f"latest/{key}.onnx", key))

    def get_latest(self, name: str) -> tuple[bytes, Latest]:
        """Return what `name` serves, whole. Raises ModelInvalid where it does not have the digest it was given."""
        key = key_of(name)
        data, file = self._known(self.files.read, f"latest/{key}.onnx", key)
        sha256 = digest(data)
        if file.metadata.get("sha256", sha256) != sha256:
            raise ModelInvalid(f"the model {name_of(key)!r} in the store is not what was published: its digest differs")
        return data, self._latest_of(key, file, sha256)

    def _latest_of(self, key: Key, file: File, sha256: str = "") -> Latest:
        version = file.metadata.get("version", "")
        if not version:  # a directory, or a file put there by hand: it is the version that has the same content
            same = [v for v, f in self._listed(f"models/{key}/", ".onnx").items() if f.etag == file.etag]
            version = max(same) if same else "unversioned-" + hashlib.sha256(file.etag.encode()).hexdigest()[:8]
        sha256 = file.metadata.get("sha256", sha256)
        return Latest(version, sha256, file.etag, file.size_bytes, file.modified)

    # -- publishing ----------------------------------------------------------------------------------------------

    def publish(self, name: str, version: str, onnx: bytes, weights: bytes | None, expected: Latest | None) -> Latest:
        """Store a new version and serve it, if what is served is still `expected` (None = nothing is).

        A reader sees the old model or the new one. Raises Conflict when somebody else published first, or when the
        name was pinned meanwhile; nothing is left of this version then.
        """
        key, path = key_of(name), f"models/{key_of(name)}/{checked_version(version)}"
        if self.pinned(key):
            raise Conflict(f"the model {name_of(key)!r} is pinned")
        if self._served_etag(key) != (expected.etag if expected else None):
            raise Conflict(f"another version of {name_of(key)!r} was published first")
        written = []
        try:
            if weights is not None:
                self.files.write(path + ".pt", weights, {"sha256": digest(weights)}, expected=None)
                written.append(path + ".pt")
            self.files.write(path + ".onnx", onnx, self._metadata(key, version, onnx), expected=None)
            written.append(path + ".onnx")
            return self._serve(key, version, onnx, expected)
        except Conflict:
            self.files.remove(written)
            raise

    def rollback(self, name: str, version: str | None = None) -> Latest:
        """Serve `version` again, by default the one before the one that is served. Raises Conflict like `publish`."""
        key = key_of(name)
        try:
            served: Latest | None = self.head(key)
        except NotFound:
            served = None
        if version is None:
            stored = [v.version for v in self.versions(key)]
            older = [version for version in stored if served is None or version < served.version]
            if served is None and not stored:
                raise NotFound(f"there is no model {name_of(key)!r}")
            if not older:
                raise NotFound(f"{name_of(key)!r} has no version before the one that is served")
            version = older[-1]
        return self._serve(key, version, self.get_version(key, version), served)

    def _serve(self, key: Key, version: str, onnx: bytes, expected: Latest | None) -> Latest:
        metadata = self._metadata(key, version, onnx)
        etag = expected.etag if expected else None
        try:
            file = self.files.write(f"latest/{key}.onnx", onnx, metadata, etag, f"models/{key}/{version}.onnx")
        except Conflict as error:
            raise Conflict(f"another version of {name_of(key)!r} was published first") from error
        return Latest(version, metadata["sha256"], file.etag, file.size_bytes, file.modified)

    @staticmethod
    def _metadata(key: Key, version: str, onnx: bytes) -> dict[str, str]:
        return {"version": version, "sha256": digest(onnx), "key": quote(key, safe="")}

    def _served_etag(self, key: Key) -> str | None:
        try:
            return self.files.stat(f"latest/{key}.onnx").etag
        except NotFound:
            return None

    # -- versions ------------------------------------------------------------------------------------------------

    def versions(self, name: str) -> list[Stored]:
        """Return the versions of `name`, oldest first; none where the name is not known."""
        listed = self.files.list(f"models/{key_of(name)}/")
        stems = {path.rpartition("/")[2]: file for path, file in listed.items()}
        return [
            Stored(stem[: -len(".onnx")], file.size_bytes, file.modified, stem[: -len(".onnx")] + ".pt" in stems)
            for stem, file in sorted(stems.items())
            if stem.endswith(".onnx")
        ]

    def get_version(self, name: str, version: str) -> bytes:
        """Return the model file of a version."""
        return self._get(name, version, ".onnx")

    def get_weights(self, name: str, version: str) -> bytes:
        """Return the weights of a version; NotFound where it was stored without."""
        return self._get(name, version, ".pt")

    def _get(self, name: str, version: str, suffix: str) -> bytes:
        key = key_of(name)
        try:
            data, file = self.files.read(f"models/{key}/{checked_version(version)}{suffix}")
        except NotFound as error:
            what = "weights of version" if suffix == ".pt" else "version"
            raise NotFound(f"there is no {what} {version} of {name_of(key)!r}") from error
        if file.metadata.get("sha256", "") not in ("", digest(data)):
            raise ModelInvalid(f"version {version} of {name_of(key)!r} is not what was stored: its digest differs")
        return data

    def prune(self, name: str, keep: int) -> list[str]:
        """Remove all but the newest `keep` versions, return which; never the served one, nothing of a pinned name."""
        key = key_of(name)
        if self.pinned(key):
            return []
        stored = [v.version for v in self.versions(key)]
        kept = set(stored[-max(keep, 1) :])
        if len(kept) == len(stored):
            return []
        try:
            kept.add(self.head(key).version)
        except NotFound:
            return []  # being deleted, or its first model is being published
        removed = [version for version in stored if version not in kept]
        self.files.remove([f"models/{key}/{version}{suffix}" for version in removed for suffix in (".onnx", ".pt")])
        return removed

    def delete(self, name: str) -> None:
        """Stop serving `name`; remove its versions, filter and pin."""
        key = key_of(name)
        served = [f"latest/{key}{suffix}" for suffix in (".onnx", "_filter.json", "_pin.json")]
        there = set(self.files.list("latest/"))
        versions = list(self.files.list(f"models/{key}/"))
        if not versions and not there.intersection(served):
            raise NotFound(f"there is no model {name_of(key)!r}")
        self.files.remove(served)
        self.files.remove(versions)

    # -- filters and pins ----------------------------------------------------------------------------------------

    def filter(self, name: str) -> dict[str, Any] | None:
        """Return the Druid filter of a model by name, None where it has none. Raises ModelInvalid where it is none."""
        key = key_of(name)
        try:
            data, _ = self.files.read(f"latest/{key}_filter.json")
        except NotFound:
            return None
        try:
            found = json.loads(data)
        except ValueError as error:
            raise ModelInvalid(f"the filter of {name_of(key)!r} in the store is not JSON") from error
        if not isinstance(found, dict):
            raise ModelInvalid(f"the filter of {name_of(key)!r} in the store is not a JSON object")
        return found

    def put_filter(self, name: str, druid_filter: Mapping[str, Any]) -> None:
        """Give a model by name its Druid filter, or another one."""
        data = json.dumps(dict(druid_filter), indent=1, sort_keys=True).encode()
        self.files.write(f"latest/{key_of(name)}_filter.json", data, {}, expected=ANYTHING)

    def pinned(self, name: str) -> bool:
        """Tell whether neither training nor pruning may touch `name`."""
        try:
            self.files.stat(f"latest/{key_of(name)}_pin.json")
        except NotFound:
            return False
        return True

    def pins(self) -> frozenset[Key]:
        """Return all that is pinned, from one listing."""
        return frozenset(Key(key) for key in self._listed("latest/", "_pin.json"))

    def pin(self, name: str) -> None:
        """Keep training and pruning from touching `name`, until `unpin`."""
        data = json.dumps({"pinned_at": int(time.time())}).encode()
        self.files.write(f"latest/{key_of(name)}_pin.json", data, {}, expected=ANYTHING)

    def unpin(self, name: str) -> None:
        """Let training have `name` again; fine where it was not pinned."""
        self.files.remove([f"latest/{key_of(name)}_pin.json"])

    def probe(self) -> bool:
        """Write, read and remove a small object that no reader looks at; tell whether conditional writes hold."""
        path = f"check/{secrets.token_hex(8)}"
        self.files.write(path, b"check", {}, expected=None)
        try:
            self.files.read(path)
            if not self.files.conditional:
                return False
            self.files.write(path, b"check again", {}, expected=None)
        except Conflict:
            return self.files.conditional
        finally:
            self.files.remove([path])
        return False

    # -- common --------------------------------------------------------------------------------------------------

    def _listed(self, prefix: str, suffix: str) -> dict[str, File]:
        """Return the files under `prefix` that end in `suffix`, by what is between."""
        return {
            path[len(prefix) : -len(suffix)]: file
            for path, file in self.files.list(prefix).items()
            if path.endswith(suffix) and len(path) > len(prefix) + len(suffix)
        }

    @staticmethod
    def _known(read: Any, path: str, key: Key) -> Any:
        try:
            return read(path)
        except NotFound as error:
            raise NotFound(f"there is no model {name_of(key)!r}") from error


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
