"""The arithmetic's operations as ONNX nodes: calling them writes a graph; it must not know which graph that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.parameters import PHASES, WINDOW

OPSET, IR = 18, 8
# Running sums are taken in blocks by one matrix product: ONNX Runtime 1.16's CumSum costs 2.6 times as much.
_BLOCK = 32
_TYPES = {
    "half": TensorProto.FLOAT16,
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "int": TensorProto.INT64,
}

Operand = Union["Value", int, float]


class Value:
    """One value of the graph being written; arithmetic on it writes nodes."""

    def __init__(self, ops: OnnxOps, name: str, kind: str):
        self.ops, self.name, self.kind = ops, name, kind

    def __add__(self, other: Operand) -> Value:
        return self.ops.binary("Add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return self.ops.binary("Add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.ops.binary("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.ops.binary("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.ops.binary("Mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self.ops.binary("Mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.ops.binary("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.ops.binary("Div", other, self)

    def __floordiv__(self, other: int) -> Value:
        """Integers only, and never negative ones: ONNX divides towards zero."""
        return self.ops.binary("Div", self, other)

    def __mod__(self, other: Operand) -> Value:
        return self.ops.binary("Mod", self, other)

    def __neg__(self) -> Value:
        return self.ops.node("Neg", [self], self.kind)

    def __le__(self, other: Operand) -> Value:
        return self.ops.binary("LessOrEqual", self, other, "bool")

    def __lt__(self, other: Operand) -> Value:
        return self.ops.binary("Less", self, other, "bool")


class OnnxOps:
    """Writes a graph; every method is the ONNX form of the method of the same name in TorchOps."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[Any, ...], Value] = {}
        self._parts: dict[tuple[Any, ...], list[Value]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    # -- building blocks

    def input(self, name: str, kind: str, shape: Sequence[Union[str, int]]) -> Value:
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], list(shape)))
        return Value(self, name, kind)

    def constant(self, array: NDArray[Any], kind: str) -> Value:
        dtype = {"half": np.float16, "float": np.float32, "double": np.float64, "int": np.int64}[kind]
        array = np.array(array, dtype)
        key = ("constant", kind, array.shape, array.tobytes())
        if key not in self._known:
            name = f"c{len(self.initializers)}"
            self.initializers[name] = numpy_helper.from_array(array, name)
            self._known[key] = Value(self, name, kind)
        return self._known[key]

    def node(self, kind_of_node: str, inputs: Sequence[Value], kind: str, **attributes: Any) -> Value:
        key = (
            kind_of_node,
            kind,
            tuple(i.name for i in inputs),
            tuple(sorted((k, str(v)) for k, v in attributes.items())),
        )
        if key not in self._known:
            name = f"v{len(self.nodes)}"
            self.nodes.append(helper.make_node(kind_of_node, [i.name for i in inputs], [name], **attributes))
            self._known[key] = Value(self, name, kind)
        return self._known[key]

    def lift(self, value: Operand, kind: str) -> Value:
        return value if isinstance(value, Value) else self.constant(np.asarray(value), kind)

    def binary(self, name: str, left: Operand, right: Operand, result: str = "") -> Value:
        kind = left.kind if isinstance(left, Value) else right.kind  # type: ignore[union-attr]
        return self.node(name, [self.lift(left, kind), self.lift(right, kind)], result or kind)

    def model(self, outputs: dict[str, Value], shapes: dict[str, Sequence[Union[str, int]]]) -> onnx.ModelProto:
        """The finished model, without metadata."""
        nodes = list(self.nodes)
        infos = []
        for name, value in outputs.items():
            nodes.append(helper.make_node("Identity", [value.name], [name]))
            infos.append(helper.make_tensor_value_info(name, _TYPES[value.kind], list(shapes[name])))
        nodes, needed = _needed(nodes, set(outputs))
        initializers = [tensor for name, tensor in self.initializers.items() if name in needed]
        graph = helper.make_graph(nodes, "detector", self._inputs, infos, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)

    # -- the operations of the arithmetic

    def length(self, x: Value) -> Value:
        return self.pick(self.node("Shape", [x], "int"), 0)

    def arange(self, count: Operand) -> Value:
        return self.every(count, 1)

    def every(self, count: Operand, step: Operand) -> Value:
        """0, step, 2 * step ... below count."""
        return self.node("Range", [self.lift(x, "int") for x in (0, count, step)], "int")

    def to_float(self, x: Value) -> Value:
        return self.node("Cast", [x], "float", to=TensorProto.FLOAT)

    def to_double(self, x: Value) -> Value:
        return self.node("Cast", [x], "double", to=TensorProto.DOUBLE)

    def to_int(self, x: Value) -> Value:
        return self.node("Cast", [x], "int", to=TensorProto.INT64)

    def index_of(self, x: Value, values: NDArray[np.int64]) -> Value:
        same = self.node("Equal", [x, self.constant(values, "int")], "bool")
        return self.node("ArgMax", [self.to_float(same)], "int", axis=0, keepdims=0)

    def log(self, x: Value) -> Value:
        return self.node("Log", [x], x.kind)

    def exp(self, x: Value) -> Value:
        return self.node("Exp", [x], x.kind)

    def floor(self, x: Value) -> Value:
        return self.node("Floor", [x], x.kind)

    def sqrt(self, x: Value) -> Value:
        return self.node("Sqrt", [x], x.kind)

    def abs(self, x: Value) -> Value:
        return self.node("Abs", [x], x.kind)

    def activation(self, x: Value) -> Value:
        return self.node("HardSwish", [x], x.kind)

    def minimum(self, x: Value, y: Operand) -> Value:
        return self.binary("Min", x, y)

    def maximum(self, x: Value, y: Operand) -> Value:
        return self.binary("Max", x, y)

    def clip(self, x: Value, low: Operand, high: Operand) -> Value:
        return self.node("Clip", [x, self.lift(low, x.kind), self.lift(high, x.kind)], x.kind)

    def observed(self, x: Value) -> Value:
        return self.node("Not", [self.node("IsNaN", [x], "bool")], "bool")

    def where(self, condition: Value, x: Operand, y: Operand) -> Value:
        kind = x.kind if isinstance(x, Value) else y.kind if isinstance(y, Value) else "float"
        return self.node("Where", [condition, self.lift(x, kind), self.lift(y, kind)], kind)

    def pick(self, x: Value, index: Operand) -> Value:
        return self.node("Gather", [x, self.lift(index, "int")], x.kind, axis=0)

    def rows(self, x: Value, index: Value) -> Value:
        return self.node("Gather", [x, index], x.kind, axis=0)

    def rows_from(self, x: Value, first: Value) -> Value:
        """The rows from `first` on."""
        end, axis = self.constant(np.asarray([2**31 - 1]), "int"), self.constant(np.asarray([0]), "int")
        return self.node("Slice", [x, self.reshape(first, (1,)), end, axis], x.kind)

    def split(self, x: Value, sizes: Sequence[int], axis: int = -1) -> list[Value]:
        if len(sizes) == 1:
            return [x]
        key = ("split", x.name, tuple(sizes), axis)
        if key not in self._parts:
            names = [f"v{len(self.nodes)}_{i}" for i in range(len(sizes))]
            size = self.constant(np.asarray(sizes), "int")
            self.nodes.append(helper.make_node("Split", [x.name, size.name], names, axis=axis))
            self._parts[key] = [Value(self, name, x.kind) for name in names]
        return self._parts[key]

    def concat(self, parts: Sequence[Value]) -> Value:
        return self.node("Concat", parts, parts[0].kind, axis=-1)

    def stack(self, parts: Sequence[Value]) -> Value:
        """Rows of the parts below one another."""
        return self.node("Concat", parts, parts[0].kind, axis=0)

    def column(self, x: Value) -> Value:
        return self.node("Unsqueeze", [x, self.constant(np.asarray([-1]), "int")], x.kind)

    def zero_row_first(self, x: Value, width: int) -> Value:
        return self.node("Concat", [self.constant(np.zeros((1, width)), x.kind), x], x.kind, axis=0)

    def sum_last(self, x: Value) -> Value:
        return self.node("ReduceSum", [x, self.constant(np.asarray([-1]), "int")], x.kind, keepdims=1)

    def mean_rows(self, x: Value) -> Value:
        return self.node("ReduceMean", [x, self.constant(np.asarray([0]), "int")], x.kind, keepdims=1)

    def matmul(self, x: Value, y: Value) -> Value:
        return self.node("MatMul", [x, y], x.kind)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self.node("Reshape", [x, self.constant(np.asarray(shape), "int")], x.kind)

    def split_rows(self, x: Value, size: int, width: int) -> Value:
        return self.reshape(x, (-1, size, width))

    def merge_rows(self, x: Value, width: int) -> Value:
        return self.reshape(x, (-1, width))

    def merge_windows(self, x: Value) -> Value:
        """[U, M, W] -> [U*M, W]."""
        return self.reshape(x, (-1, WINDOW))

    def phases(self, x: Value) -> Value:
        """[N, 4] -> [4, N, 1]."""
        return self.column(self.node("Transpose", [x], x.kind, perm=[1, 0]))

    def spread_over_phases(self, x: Value) -> Value:
        """[N, W] as what broadcasts over the phases before it: [1, N, W]."""
        return self.node("Unsqueeze", [x, self.constant(np.asarray([0]), "int")], x.kind)

    def split_metrics(self, x: Value, metrics: int, width: int) -> Value:
        """[4, U*M, H] -> [4, U, M, H]."""
        return self.reshape(x, (PHASES, -1, metrics, width))

    def merge_metrics(self, x: Value, width: int) -> Value:
        """[4, U, M, H] -> [4, U*M, H]."""
        return self.reshape(x, (PHASES, -1, width))

    def split_last(self, x: Value, parts: int, width: int) -> Value:
        return self.reshape(x, (PHASES, -1, parts, width))

    def merge_last(self, x: Value, width: int) -> Value:
        return self.reshape(x, (PHASES, -1, width))

    def rows_of_places(self, x: Value, metrics: int, places: int) -> Value:
        """[4, U*M, A] -> [4*U*A, M]."""
        return self.reshape(self.swap(self.reshape(x, (-1, metrics, places))), (-1, metrics))

    def swap(self, x: Value) -> Value:
        return self.node("Transpose", [x], x.kind, perm=[0, 2, 1])

    def total(self, x: Value) -> Value:
        """[P, T, M] -> [T, M]."""
        return self.node("ReduceSum", [x, self.constant(np.asarray([0]), "int")], x.kind, keepdims=0)

    def split_last_axis(self, x: Value, parts: int, width: int) -> Value:
        """[T, S * N] -> [T, S, N]."""
        return self.reshape(x, (-1, parts, width))

    def beside_scales(self, x: Value) -> Value:
        """[T, M] as what broadcasts over the scales: [T, 1, M]."""
        return self.node("Unsqueeze", [x, self.constant(np.asarray([1]), "int")], x.kind)

    def most_of_scales(self, x: Value) -> Value:
        """[T, S, M] -> [T, M]."""
        return self.node("ReduceMax", [x, self.constant(np.asarray([1]), "int")], x.kind, keepdims=0)

    def least_of_scales(self, x: Value) -> Value:
        """[T, S, M] -> [T, M]."""
        return self.node("ReduceMin", [x, self.constant(np.asarray([1]), "int")], x.kind, keepdims=0)

    def scale(self, x: Value, which: int) -> Value:
        """[T, S, M] -> [T, M]."""
        return self.node("Gather", [x, self.lift(which, "int")], x.kind, axis=1)

    def running_sum(self, x: Value, width: int, count: Value) -> Value:
        """Sums of the rows before each row, and of all: [T + 1 or more, width] in float64."""
        # A row of zeros first: what precedes a row is then the sum up to itself. Zeros last, to whole blocks.
        missing = self.constant(np.asarray([_BLOCK - 1]), "int") - self.reshape(count, (1,)) % _BLOCK
        shape = self.node("Concat", [missing, self.constant(np.asarray([width]), "int")], "int", axis=0)
        rest = self.node("ConstantOfShape", [shape], x.kind)
        padded = self.node("Concat", [self.constant(np.zeros((1, width)), x.kind), x, rest], x.kind, axis=0)
        blocks = self.to_double(self.split_rows(padded, _BLOCK, width))
        within = self.matmul(self.constant(np.tril(np.ones((_BLOCK, _BLOCK))), "double"), blocks)
        totals = self.node("Gather", [within, self.constant(np.asarray([_BLOCK - 1]), "int")], "double", axis=1)
        offsets = self.node("CumSum", [totals, self.constant(np.asarray(0), "int")], "double", exclusive=1)
        return self.merge_rows(within + offsets, width)

    def between(self, sums: Value, low: Value, high: Value) -> Value:
        """What lies in rows low to high - 1, from running sums, as float32: [..., width]."""
        return self.to_float(self.rows(sums, high) - self.rows(sums, low))

    def between_of_parts(self, sums: Value, low: Value, high: Value, parts: int, width: int) -> Value:
        """The same for parts of the columns, each with its own rows [T, parts]: [T, parts, width]."""
        part = self.constant(np.arange(parts)[None], "int")
        return self.between(self.merge_rows(sums, width), low * parts + part, high * parts + part)


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that the wanted values follow from, in order, and the names of all values that they need."""
    kept, needed = [], set(wanted)
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1], needed
