from __future__ import annotations

import json
import math

import pytest

from outliers.errors import ModelInvalid
from outliers.infer.metadata import CONTRACT_VERSION, Line, ModelMeta

META = ModelMeta(
    name="sensor \u00e9 / 1", version="20260101T000000Z-ab", data_source="rb_flow",
    filter={"type": "selector", "dimension": "sensor_name", "value": "sensor 1"},
    metrics=("bytes", "pkts"), granularities={"PT1M": 60, "PT1H": 3600},
    lines={
        "PT1M": {"whole": Line(1.25, {0.05: 2.0, 0.25: 1.5, 4.0: 1.1}), "causal": Line(1.6)},
        "PT1H": {"whole": Line(1.25), "causal": Line(1.6)},
    },
    aggregations=({"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"},), points={"PT1M": 10_080},
    validation={"loss": 0.1}, trained_from=1, trained_to=2, created_at="2026-01-01T00:00:00Z", parent="v0",
    libraries={"torch": "2"}, settings_sha256="ab",
)  # fmt: skip


def test_metadata_comes_back_as_written() -> None:
    assert ModelMeta.from_props(META.to_props()) == META


def test_metadata_of_unknown_keys_is_read() -> None:
    assert ModelMeta.from_props({**META.to_props(), "added_later": "1"}) == META


def test_metadata_of_a_newer_contract_is_refused_with_a_sentence() -> None:
    with pytest.raises(ModelInvalid, match="upgrade the executor"):
        ModelMeta.from_props({**META.to_props(), "contract": json.dumps(CONTRACT_VERSION + 1)})


@pytest.mark.parametrize("key", ["metrics", "lines", "granularities", "contract"])
@pytest.mark.parametrize("value", ["", "{", "null", "[1", '"text"'])
def test_metadata_that_is_damaged_is_refused(key: str, value: str) -> None:
    with pytest.raises(ModelInvalid):
        ModelMeta.from_props({**META.to_props(), key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "5"), ("data_source", "[]"), ("filter", '"text"'), ("filter", "[" * 20_000 + "]" * 20_000),
        ("contract", "Infinity"), ("granularities", '{"PT1M": Infinity}'), ("granularities", '{"PT5M": 300}'),
        ("min_points", '"x"'), ("lines", '{"PT1M": {"whole": {"default": NaN, "budgets": {}}}}'), ("points", "[]"),
    ],
)  # fmt: skip
def test_metadata_of_another_kind_is_refused(key: str, value: str) -> None:
    with pytest.raises(ModelInvalid):
        ModelMeta.from_props({**META.to_props(), key: value})


def test_metadata_of_a_foreign_file_is_refused() -> None:
    with pytest.raises(ModelInvalid, match="no model metadata"):
        ModelMeta.from_props({"author": "somebody"})


def test_line_between_budgets_is_log_linear() -> None:
    line = META.line("PT1M")
    assert line.k(0.25) == 1.5
    half_way = math.sqrt(0.05 * 0.25)
    assert line.k(half_way) == pytest.approx(1.75)
    assert line.k(0.001) == 2.0
    assert line.k(100) == 1.1


def test_line_without_budget_is_the_fixed_one() -> None:
    assert META.line("PT1M").k() == 1.25
    assert META.line("PT1M").k(0) == 1.25
    assert META.line("PT1H").k(0.25) == 1.25
