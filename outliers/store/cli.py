"""The verbs `models list|show|rollback|pin|unpin|delete`; must not know how a model is made or used.

Reads and writes the configured store. Executors follow within `[Store] refresh_s`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any, Optional

from outliers.config import Config
from outliers.errors import NotFound
from outliers.store import open_store
from outliers.store.base import Latest, Store, Stored
from outliers.store.names import Key, key_of, name_of

Describe = Callable[[bytes], Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs."""
    verbs = parser.add_subparsers(dest="models_verb", metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="what is served, one line a model")
    show = verbs.add_parser("show", help="one model: what is served, its versions, filter and pin")
    rollback = verbs.add_parser("rollback", help="serve an older version again")
    pin = verbs.add_parser("pin", help="keep training and pruning from touching a name")
    unpin = verbs.add_parser("unpin", help="let training have a name again")
    delete = verbs.add_parser("delete", help="stop serving a name and remove all its versions")
    for verb in (show, rollback, pin, unpin, delete):
        verb.add_argument("name", metavar="NAME", help="name of a sensor or model, as `list` shows it")
    rollback.add_argument("version", nargs="?", metavar="VERSION", help="by default the one before the served one")
    rollback.add_argument("--pin", action="store_true", help="pin the name too, or the next training replaces it")
    delete.add_argument("--yes", action="store_true", help="do it; without, only say what would be removed")
    for verb in (listing, show):
        verb.add_argument("--json", action="store_true", help="as JSON instead of a table")


def run(args: argparse.Namespace, config: Config, describe: Optional[Describe] = None) -> int:
    """Do one verb on the configured store, print what came of it, return the exit code.

    describe: gives what a model file says of itself, for `show`.
    """
    return _VERBS[args.models_verb](args, open_store(config), describe)


def _list(args: argparse.Namespace, store: Store, _: Optional[Describe]) -> int:
    def row(key: Key) -> Optional[dict[str, Any]]:
        try:
            return {"name": name_of(key), **_served(store.head(key)), "pinned": key in pins}
        except NotFound:
            return None  # deleted since the listing

    pins = store.pins()
    with ThreadPoolExecutor(16) as pool:  # S3 tells versions one by one
        rows = [row for row in pool.map(row, sorted(store.latest())) if row]
    if args.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        table = [[r["name"], r["version"], r["published"], _size(r["size_bytes"]), "pinned" if r["pinned"] else ""]
                 for r in rows]  # fmt: skip
        _print_table(["NAME", "VERSION", "PUBLISHED", "SIZE", ""], table)
    else:
        print(f"no model is served from this {store.what}", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace, store: Store, describe: Optional[Describe]) -> int:
    key = _known(store, args.name)
    versions = store.versions(key)
    served: Optional[Latest] = None
    about: Mapping[str, Any] = {}
    try:
        data, served = store.get_latest(key)
        about = describe(data) if describe else {}
    except NotFound:
        pass
    found = {
        "name": name_of(key),
        "served": {**_served(served), "sha256": served.sha256} if served else None,
        "pinned": store.pinned(key),
        "filter": store.filter(key),
        "versions": [_version(stored, served) for stored in versions],
        "metadata": dict(about),
    }
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"name      {found['name']}\nserved    {served.version if served else 'nothing'}")
    print(f"pinned    {'yes' if found['pinned'] else 'no'}\nfilter    {json.dumps(found['filter'])}")
    for field, value in about.items():
        print(f"{field:<9} {value if isinstance(value, str) else json.dumps(value)}")
    print()
    marks = {True: "served", False: ""}
    _print_table(
        ["VERSION", "STORED", "SIZE", ""],
        [[v.version, _when(v.modified), _size(v.size), marks[served is not None and v.version == served.version]]
         for v in versions],
    )  # fmt: skip
    return 0


def _rollback(args: argparse.Namespace, store: Store, _: Optional[Describe]) -> int:
    if args.pin:
        store.pin(args.name)
    served = store.rollback(args.name, args.version)
    print(
        f"{name_of(key_of(args.name))} serves {served.version} again" + ("" if store.pinned(args.name) else _UNPINNED)
    )
    return 0


_UNPINNED = "; the next training replaces it unless it is pinned"


def _pin(args: argparse.Namespace, store: Store, _: Optional[Describe]) -> int:
    store.pin(_known(store, args.name))
    print(f"{args.name} is pinned")
    return 0


def _unpin(args: argparse.Namespace, store: Store, _: Optional[Describe]) -> int:
    store.unpin(_known(store, args.name))
    print(f"{args.name} is not pinned")
    return 0


def _delete(args: argparse.Namespace, store: Store, _: Optional[Describe]) -> int:
    key = _known(store, args.name)
    count = len(store.versions(key))
    if not args.yes:
        print(f"would delete {args.name} and its {count} versions; say --yes to do it")
        return 1
    store.delete(key)
    print(f"deleted {args.name} and its {count} versions")
    return 0


_VERBS = {"list": _list, "show": _show, "rollback": _rollback, "pin": _pin, "unpin": _unpin, "delete": _delete}


def _known(store: Store, name: str) -> Key:
    """Return the key of a name, also of one that `list` could only show as its key. Raises NotFound."""
    candidates = [key_of(name)] + ([Key(name)] if "~" in name and "/" not in name else [])
    for key in candidates:
        if store.versions(key) or store.pinned(key):
            return key
        try:
            store.head(key)
            return key
        except NotFound:
            continue
    raise NotFound(f"there is no model {name!r}")


def _served(latest: Latest) -> dict[str, Any]:
    return {"version": latest.version, "published": _when(latest.modified), "size_bytes": latest.size}


def _version(stored: Stored, served: Optional[Latest]) -> dict[str, Any]:
    return {
        "version": stored.version,
        "stored": _when(stored.modified),
        "size_bytes": stored.size,
        "weights": stored.has_weights,
        "served": served is not None and served.version == stored.version,
    }


def _when(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1000:.0f} kB"


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    for line in [head, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
