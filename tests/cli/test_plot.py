"""The picture of an answer: what it marks, and what stands at its axes; an SVG holds its texts as comments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outliers.infer.cache import Models
from outliers.web.answer import Answer
from outliers.web.calculate import calculate, open_context
from outliers.web.payload import from_fields
from tests.web.asking import config_for, rows

pytest.importorskip("matplotlib", reason="matplotlib is not installed: nothing is drawn")
from outliers.cli.plot import plot_answer


def answered(tmp_path: Path, values: list[Any], **fields: Any) -> Answer:
    context = open_context(config_for("http://127.0.0.1:9/druid/v2/"), Models(str(tmp_path / "nothing"), 64))
    return calculate(from_fields({"data": rows(values), **fields}), context)


def drawn(answer: Answer, folder: Path) -> tuple[str, list[str]]:
    """Return the SVG of an answer, and the texts in it."""
    path = folder / "plot.svg"
    plot_answer(answer, str(path), title="a title")
    svg = path.read_text(encoding="utf-8")
    return svg, re.findall(r"<!-- (.*?) -->", svg)


def bumped(height: float) -> list[float]:
    values = 1e9 * (2 + np.sin(np.arange(1500) * 2 * np.pi / 1440)) + np.random.default_rng(3).normal(0, 2e7, 1500)
    values[700:730] *= np.linspace(1, height, 30)
    return [float(value) for value in values]


def test_what_is_carried_is_hollow_and_told_in_the_legend(tmp_path: Path):
    answer = answered(tmp_path, bumped(1.5), k=3)
    carried = int(answer.rows.carried.sum())
    assert 0 < carried < answer.rows.flag.sum()
    svg, texts = drawn(answer, tmp_path)
    assert {"band", "bytes", "expected", "anomaly", "anomaly carried by its neighbours", "UTC"} <= set(texts)
    assert len(re.findall(r'<use [^>]*style="fill: #ffffff; stroke: #c1121f"', svg)) == carried + 1  # one in the legend


def test_nothing_is_marked_where_nothing_is_anomalous(tmp_path: Path):
    texts = drawn(answered(tmp_path, bumped(1.0)), tmp_path)[1]
    assert "expected" in texts and not any(text.startswith("anomaly") for text in texts)


@pytest.mark.parametrize(("k", "ticks"), [(0.5, ["0", "1", "3", "10"]), (0.005, ["0", "1", "10", "100", "1,000"])])
def test_high_scores_have_several_plain_numbers_at_their_axis(tmp_path: Path, k: float, ticks: list[str]):
    answer = answered(tmp_path, bumped(6.0), k=k)
    texts = drawn(answer, tmp_path)[1]
    assert texts[texts.index("score") - len(ticks) : texts.index("score")] == ticks
    assert not any("10^" in text for text in texts)
