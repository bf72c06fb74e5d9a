from __future__ import annotations

import hashlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.errors import InvalidRequest
from outliers.store.names import Key, checked_version, key_of, name_of, new_version


@given(st.text(min_size=1, max_size=400))
def test_key_of_any_name_is_one_safe_path_segment(name: str) -> None:
    key = key_of(name)
    assert re.fullmatch(r"[A-Za-z0-9_%~-]{1,180}", key)


@given(st.text(min_size=1, max_size=30))
def test_name_of_a_key_that_was_not_cut_is_the_name(name: str) -> None:
    key = key_of(name)
    if "~" not in key:
        assert name_of(key) == name


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_key_of_two_names_differs(one: str, other: str) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("FlowSensor", "FlowSensor"),
        ("a.b", "a%2Eb"),
        ("../../etc/passwd", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
        ("a~b", "a%7Eb"),
        ("100%", "100%25"),
        ("Málaga", "M%C3%A1laga"),
        ("a b", "a%20b"),
        (".", "%2E"),
        ("x" * 180, "x" * 180),
        ("x" * 181, "x" * 140 + "~" + hashlib.sha256(b"x" * 181).hexdigest()[:32]),
    ],
)
def test_key_of_known_names(name: str, key: str) -> None:
    assert key_of(name) == key


def test_key_of_a_key_is_itself() -> None:
    key = key_of("a.b")
    assert key_of(key) is key
    assert key_of(str(key)) == "a%252Eb"  # what a request names is always encoded
    assert isinstance(key, Key)


def test_key_of_an_empty_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least one character"):
        key_of("")


def test_new_version_sorts_by_time_and_is_no_path() -> None:
    versions = []
    for _ in range(20):
        versions.append(new_version())
        time.sleep(0.0001)
    assert versions == sorted(versions)
    assert len(set(versions)) == 20
    assert all(checked_version(version) == version for version in versions)
    assert versions[0].startswith(time.strftime("%Y%m%dT%H", time.gmtime()))


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "../x", ".hidden", "a\\b", "x" * 101, "a\n"])
def test_checked_version_refuses_paths(text: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_version(text)
