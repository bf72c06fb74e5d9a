from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from outliers.config import Config
from outliers.errors import NotFound
from outliers.store import Store, cli, new_version


def models(config: Config, *words: str, describe: Any = None) -> int:
    parser = argparse.ArgumentParser(prog="models")
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(words), config, describe)


@pytest.fixture
def two_versions(store: Store) -> list[str]:
    first = store.publish("Flow Sensor", new_version(), b"x" * 4200, b"w", None)
    second = store.publish("Flow Sensor", new_version(), b"y" * 4300, None, first)
    return [first.version, second.version]


def test_list_of_an_empty_store_says_so(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(config, "list") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith("no model is served")) == ("", True)
    assert models(config, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_list_shows_name_version_and_pin(
    config: Config, store: Store, two_versions: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store.pin("Flow Sensor")
    models(config, "list")
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "VERSION", "PUBLISHED", "SIZE"]
    assert line.startswith("Flow Sensor  " + two_versions[1])
    assert line.endswith("4 kB  pinned")
    models(config, "list", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["version"], row["size_bytes"], row["pinned"]) == (
        "Flow Sensor", two_versions[1], 4300, True,
    )  # fmt: skip


def test_show_tells_versions_and_what_the_file_says(
    config: Config, two_versions: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    models(config, "show", "Flow Sensor", "--json", describe=lambda data: {"first": data[:1].decode()})
    shown = json.loads(capsys.readouterr().out)
    assert [(v["version"], v["served"], v["weights"]) for v in shown["versions"]] == [
        (two_versions[0], False, True), (two_versions[1], True, False),
    ]  # fmt: skip
    assert (shown["pinned"], shown["filter"], shown["metadata"]) == (False, None, {"first": "y"})
    models(config, "show", "Flow Sensor")
    assert two_versions[0] in capsys.readouterr().out


def test_rollback_then_pin_and_unpin(
    config: Config, store: Store, two_versions: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert models(config, "rollback", "Flow Sensor") == 0
    assert "unless it is pinned" in capsys.readouterr().out
    assert store.head("Flow Sensor").version == two_versions[0]
    models(config, "rollback", "Flow Sensor", two_versions[1], "--pin")
    assert "unless" not in capsys.readouterr().out
    assert store.head("Flow Sensor").version == two_versions[1]
    assert store.pinned("Flow Sensor")
    models(config, "unpin", "Flow Sensor")
    assert not store.pinned("Flow Sensor")
    models(config, "pin", "Flow Sensor")
    assert store.pinned("Flow Sensor")


def test_delete_asks_for_yes(
    config: Config, store: Store, two_versions: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert models(config, "delete", "Flow Sensor") == 1
    assert "2 versions; say --yes" in capsys.readouterr().out
    assert store.latest()
    assert models(config, "delete", "Flow Sensor", "--yes") == 0
    assert store.latest() == {}


@pytest.mark.parametrize("verb", ["show", "rollback", "pin", "unpin", "delete"])
def test_unknown_name_is_said(config: Config, verb: str) -> None:
    with pytest.raises(NotFound, match="no model 'nobody'"):
        models(config, verb, "nobody")


def test_name_that_was_cut_is_known_by_its_key(
    config: Config, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.publish("ñ" * 200, new_version(), b"one", None, None)
    models(config, "list", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    models(config, "pin", row["name"])
    assert store.pinned("ñ" * 200)
