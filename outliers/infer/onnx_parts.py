"""Takes a model file apart: the graph that models of one kind share, and the learned numbers that are a model's own.

It must not know what the graph computes. A session of onnxruntime costs 3 MB and tens of milliseconds, nearly all of it
for the graph's nodes; the numbers are a fifteenth of that. With the numbers given as inputs, one session serves all
models whose graphs are equal, with the same results to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from outliers.errors import ModelInvalid
from outliers.infer.onnx_bytes import (
    BYTES,
    DAMAGED,
    METADATA,
    VARINT,
    bytes_field,
    fields,
    props_of,
    varint,
    varint_field,
)

Bytes = Union[bytes, memoryview]
Numbers = dict[str, NDArray[Any]]

# Field numbers of onnx.proto.
_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_INPUT = 5, 11
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
LEAST_BYTES = 64  # smaller tensors are constants of the arithmetic, and stay in the graph


class Parts(NamedTuple):
    """A file taken apart. graph: without metadata, learned tensors are inputs; numbers: those tensors by input name."""

    graph: bytes
    numbers: Numbers
    props: dict[str, str]


def take_apart(data: bytes) -> Parts:
    """Take a model file apart; raises ModelInvalid where it is no ONNX file or is cut off."""
    numbers: Numbers = {}
    parts: list[Bytes] = []
    try:
        for field in fields(memoryview(data)):
            if field.number == _GRAPH and field.kind == BYTES:
                parts.append(bytes_field(_GRAPH, b"".join(_without_numbers(field.content, numbers))))
            elif field.number != METADATA:
                parts.append(field.whole)
        return Parts(b"".join(parts), numbers, props_of(memoryview(data)))
    except (IndexError, ValueError) as error:
        raise ModelInvalid(DAMAGED) from error


def _without_numbers(graph: memoryview, numbers: Numbers) -> Iterator[Bytes]:
    """Yield the graph's fields, learned tensors as inputs; the tensors go into `numbers`."""
    inputs = []
    for field in fields(graph):
        if field.number != _GRAPH_INITIALIZER or field.kind != BYTES:
            yield field.whole
            continue
        dims, kind, name, raw = _tensor(field.content)
        dtype = np.dtype(_FLOATS.get(kind, "V1"))
        if kind not in _FLOATS or len(raw) < LEAST_BYTES or len(raw) != dtype.itemsize * int(np.prod(dims)):
            yield field.whole
            continue
        numbers[name] = np.frombuffer(raw, dtype).reshape(dims).copy()  # aligned, and the file need not be kept
        inputs.append(bytes_field(_GRAPH_INPUT, _value_info(name, kind, dims)))
    yield from inputs


def _tensor(content: memoryview) -> tuple[list[int], int, str, memoryview]:
    dims: list[int] = []
    kind, name, raw = 0, "", content[:0]
    for field in fields(content):
        if field.number == _TENSOR_DIMS and field.kind == VARINT:
            dims.append(field.value)
        elif field.number == _TENSOR_DIMS:
            position = 0
            while position < len(field.content):
                value, position = varint(field.content, position)
                dims.append(value)
        elif field.number == _TENSOR_TYPE:
            kind = field.value
        elif field.number == _TENSOR_NAME:
            name = bytes(field.content).decode()
        elif field.number == _TENSOR_RAW:
            raw = field.content
    return dims, kind, name, raw


def _value_info(name: str, kind: int, dims: list[int]) -> bytes:
    """A ValueInfoProto: a tensor input of fixed shape."""
    shape = b"".join(bytes_field(1, varint_field(1, size)) for size in dims)
    tensor = varint_field(1, kind) + bytes_field(2, shape)
    return bytes_field(1, name.encode()) + bytes_field(2, bytes_field(1, tensor))
