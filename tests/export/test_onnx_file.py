from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
import onnx

from export import parity
from export.onnx_file import export
from outliers.errors import TrainingError
from outliers.series import Series
from tests.train.models import exported, fitted, meta_of
from tests.train.sensors import part, sensor

pytestmark = pytest.mark.trainer
LATER_S = 1_700_006_400 + 14 * 86_400


def queries(metrics: int) -> list[Series]:
    """Both granularities, at lengths around every window's edge, with gaps."""
    long = {name: sensor(name, 30, metrics, seed=7, start_s=LATER_S, missing=0.03) for name in ("PT5M", "PT1H")}
    return [part(s, 0, n) for s in long.values() for n in (1, 2, 15, 16, 17, 31, 32, 33, 64, 288, 500)]


@pytest.mark.parametrize("metrics", [1, 3, 6])
def test_file_answers_as_torch_does_at_any_length(metrics: int) -> None:
    assert parity.check(fitted(metrics), exported(metrics), queries(metrics)) < 1e-4


def test_parity_of_a_long_query_of_large_numbers_holds() -> None:
    one = sensor("PT5M", 35, 1, seed=1, start_s=LATER_S)
    spikes = one.values.copy()
    spikes[::500] *= 1e4  # running sums in float32 would be off by more than the noise
    series = Series(one.timestamps, spikes, one.metrics, one.granularity, one.step_s)
    assert parity.check(fitted(1), exported(1), [series]) < 1e-4


def test_parity_with_other_weights_is_refused() -> None:
    p = fitted(1).parameters
    other = dataclasses.replace(fitted(1), parameters=dataclasses.replace(p, tau=p.tau * 1.01))
    with pytest.raises(TrainingError, match="differs from the network"):
        parity.check(other, exported(1), queries(1)[:4])


def test_file_is_plain_onnx_that_old_runtimes_read() -> None:
    model = onnx.load_from_string(exported(3))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 9
    assert [(o.domain, o.version <= 18) for o in model.opset_import] == [("", True)]
    assert {n.domain for n in model.graph.node} == {""}
    assert not any(i.data_location for i in model.graph.initializer)


def test_file_has_the_inputs_and_outputs_of_the_contract() -> None:
    graph = onnx.load_from_string(exported(3)).graph
    of_type = {onnx.TensorProto.FLOAT: "float", onnx.TensorProto.INT64: "int"}

    def shapes(values: object) -> dict[str, tuple[str, list[object]]]:
        return {
            v.name: (
                of_type[v.type.tensor_type.elem_type],
                [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
            )
            for v in values  # type: ignore[attr-defined]
        }

    assert shapes(graph.input) == {
        "timestamp": ("int", ["T"]), "step": ("int", []), "values": ("float", ["T", 3]), "k": ("float", []),
        "causal": ("int", []), "first": ("int", []),
    }  # fmt: skip
    outputs = ("expected", "lower", "upper", "score", "own")
    assert shapes(graph.output) == {name: ("float", ["A", 3]) for name in outputs}


def test_file_of_eleven_metrics_and_eight_granularities_is_small() -> None:
    steps = np.array([60, 120, 300, 900, 1800, 3600, 7200, 28800])
    p = fitted(1).parameters
    rng = np.random.default_rng(0)

    def wide(a: np.ndarray, axis: int) -> np.ndarray:
        return rng.random([*a.shape[:axis], 8, *a.shape[axis + 1 : -1], 11]).astype(np.float32)

    bins = np.array([288, 288, 288, 96, 48, 24, 12, 3])
    weekly = np.array([336, 336, 336, 336, 336, 168, 84, 21])
    big = dataclasses.replace(
        p, steps=steps, level_points=np.full(8, 2017), recent_points=np.full(8, 25),
        points_per_day=np.full(8, 288.0, np.float32),
        offset=wide(p.offset, 0), center=wide(p.center, 0), spread=wide(p.spread, 0),
        unit=wide(p.unit, 0), unit_slope=wide(p.unit_slope, 0), noise=wide(p.noise, 0), habit=wide(p.habit, 1),
        daily=rng.random((bins.sum(), 11)).astype(np.float32), daily_bins=bins, daily_offset=bins.cumsum() - bins,
        weekly=rng.random((weekly.sum(), 11)).astype(np.float32), weekly_bins=weekly,
        weekly_offset=weekly.cumsum() - weekly, log_points=np.repeat(p.log_points[:1], 8, 0),
        tau=wide(p.tau, 1), size=wide(p.size, 1), usual=wide(p.usual, 1), limit=wide(p.limit, 1),
        reached=wide(p.reached, 1),
        joint_usual=np.ones((2, 8, 4, 5), np.float32), joint_limit=np.ones((2, 8, 4, 5), np.float32),
        joint_reached=np.ones((2, 8, 4), np.float32),
        embedding=rng.random((8, 11, 16)).astype(np.float32),
        weights={**p.weights, "mix_in": np.ones((176, 24), np.float32), "mix_out": np.ones((24, 176), np.float32),
                 "mix_out_bias": np.ones(176, np.float32)},
    )  # fmt: skip
    model = dataclasses.replace(fitted(1), parameters=big)
    meta = meta_of(fitted(1), metrics=tuple(f"m{i}" for i in range(11)))
    assert len(export(model, meta)) < 300_000


def test_export_with_other_metrics_than_the_model_has_is_refused() -> None:
    with pytest.raises(ValueError, match="names 2 metrics and the model has 1"):
        export(fitted(1), meta_of(fitted(1), metrics=("bytes", "pkts")))


@pytest.mark.parametrize("metrics", [1, 3])
def test_file_holds_no_node_that_nothing_needs(metrics: int) -> None:
    """onnxruntime 1.16.3 plans memory wrongly around such nodes: the second call of a length was off or failed."""
    graph = onnx.load_from_string(exported(metrics)).graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    assert all(used.intersection(node.output) for node in graph.node)
    assert {tensor.name for tensor in graph.initializer} <= used


@pytest.mark.parametrize("metrics", [1, 3])
@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_file_answers_the_same_again_with_a_runtimes_own_settings(metrics: int, mode: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported(metrics), providers=["CPUExecutionProvider"])
    for series in queries(metrics):
        feed = {
            "timestamp": series.timestamps, "step": np.array(series.step_s), "values": series.values.astype(np.float32),
            "k": np.array(1.25, np.float32), "causal": np.array(int(mode == "causal")), "first": np.array(0),
        }  # fmt: skip
        first, *others = (session.run(None, feed) for _ in range(3))
        for other in others:
            for a, b in zip(first, other):
                np.testing.assert_array_equal(a, b)
