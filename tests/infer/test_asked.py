"""What is answered about asked rows does not depend on whether the rows before them are answered too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
import onnx

from export.arithmetic import detect
from export.onnx_ops import OnnxOps
from outliers.infer.asked import BEFORE, score_asked
from outliers.infer.judge import Verdict, judge
from outliers.infer.model import Model
from outliers.infer.scores import Scores
from outliers.series import Series
from tests.train.models import fitted, loaded, meta_of
from tests.train.sensors import part, sensor, with_values

pytestmark = pytest.mark.trainer
LATER_S = 1_700_006_400 + 14 * 86_400
METRICS = 11


@pytest.fixture(scope="module", params=[1, METRICS])
def model(request: pytest.FixtureRequest) -> Model:
    return loaded(request.param)


def troubled(metrics: int, seed: int) -> tuple[Series, int]:
    """A query with anomalies of any length and size, gaps and silence, many of them at the first asked row."""
    random = np.random.default_rng(seed)
    points = int(random.integers(2, 700))
    first = int(random.integers(0, points + 1))
    whole = sensor("PT5M", 5, metrics, seed=seed, start_s=LATER_S, missing=0.02)
    series = part(whole, 300, 300 + points)
    values = series.values.copy()
    for _ in range(int(random.integers(0, 6))):
        long = int(random.choice([1, 3, 20, 100, 400]))
        start = int(random.choice([first - long // 2, random.integers(0, points)]))
        values[max(start, 0) : max(start + long, 0)] *= random.choice([0.0, 0.5, 1.3, 2.0, 10.0, np.nan])
    return with_values(series, values), first


@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_scores_from_a_row_on_are_those_of_all_rows(model: Model, mode: str) -> None:
    for seed in range(60):
        series, first = troubled(len(model.meta.metrics), seed)
        if first == len(series):
            continue
        all_of_it, some = model.score(series, mode=mode), model.score(series, mode=mode, first=first)
        for name, ours, theirs in zip(Scores._fields, some, all_of_it):
            assert np.isnan(ours[:first]).all(), name
            np.testing.assert_allclose(ours[first:], theirs[first:], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("witness", [True, False])
@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_verdict_on_asked_rows_is_the_same_without_scores_of_the_rest(
    model: Model, mode: str, silent: bool, witness: bool
) -> None:
    names = model.meta.metrics
    saved = 0
    for seed in range(80):
        series, first = troubled(len(names), 1000 + seed)
        asked = np.arange(len(series)) >= first
        empty = np.asarray((series.values == 0).all(axis=1))
        called: list[int] = []

        def score(start: int, series: Series = series, called: list[int] = called) -> Scores:
            called.append(start)
            return model.score(series, mode=mode, first=start)

        def verdict(scores: Scores, series: Series = series, empty=empty, asked=asked) -> Verdict:
            return judge(
                series, scores, names[0], empty=empty, counting=names, witness=witness, mode=mode, judged=asked,
                rarely_empty=silent, nonnegative=True,
            )  # fmt: skip

        ours, theirs = verdict(score_asked(score, 0, empty, first)), verdict(model.score(series, mode=mode))
        saved += called[-1] > 0
        for field in dataclasses.fields(Verdict):
            mine, other = (getattr(v, field.name) for v in (ours, theirs))
            if field.name == "deviating":
                assert mine[first:] == other[first:]
            elif field.name in ("forecast", "lower", "upper", "score"):
                np.testing.assert_allclose(mine[first:], other[first:], rtol=1e-5, atol=1e-6, err_msg=field.name)
            elif field.name != "metrics":
                np.testing.assert_array_equal(mine[first:], other[first:], err_msg=field.name)
    assert saved > 20, "hardly any query was spared the rest"


def test_scores_of_all_rows_are_asked_where_a_run_reaches_further_back() -> None:
    called: list[int] = []

    def score(start: int) -> Scores:
        called.append(start)
        return Scores(*[np.full((300, 1), 2.0, np.float32)] * 5)

    score_asked(score, 0, np.zeros(300, bool), 200)
    assert called == [200 - BEFORE, 0]


def test_file_of_the_first_contract_answers_every_row() -> None:
    op, p = OnnxOps(), fitted(1).parameters
    inputs = {name: op.input(name, "int", []) for name in ("step", "causal")}
    outputs = detect(
        op, p, timestamp=op.input("timestamp", "int", ["T"]), values=op.input("values", "float", ["T", 1]),
        k=op.input("k", "float", []), first=op.constant(np.asarray(0), "int"), **inputs,
    )  # fmt: skip
    file = op.model({name: outputs[name] for name in Scores._fields}, {name: ["T", 1] for name in outputs})
    onnx.helper.set_model_props(file, meta_of(fitted(1), contract=1).to_props())
    series = part(sensor("PT5M", 2, 1, start_s=LATER_S), 0, 300)
    old, new = Model.load(file.SerializeToString()).score(series, first=200), loaded(1).score(series)
    for ours, theirs in zip(old, new):
        np.testing.assert_array_equal(ours, theirs)
