"""What a query sees of a block: its columns by name, virtual ones included; knows nothing of aggregation or HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator import refusal
from outliers.druid.simulator.expression import evaluate
from outliers.druid.simulator.table import Block, Numbers, Sketch, Texts


class Columns:
    """One block's columns, and those that the query computes from them."""

    def __init__(self, block: Block, virtual: Sequence[Mapping[str, Any]] = ()) -> None:
        self.block = block
        self._virtual = {column.get("name"): column for column in virtual}

    def __len__(self) -> int:
        return len(self.block)

    @property
    def time_ms(self) -> NDArray[np.int64]:
        return self.block.time_ms

    def texts(self, name: str) -> Texts:
        """A dimension; a column that does not exist is all null, numbers are compared as texts."""
        if name in self.block.texts and name not in self._virtual:
            return self.block.texts[name]
        numbers = self.numbers(name)
        if numbers is None:
            return Texts(np.zeros(len(self), np.int32), (None,))
        values, codes = np.unique(numbers.values, return_inverse=True)
        texts: list[Optional[str]] = [str(value) for value in values.tolist()]
        if numbers.null is not None:
            codes = np.where(numbers.null, len(texts), codes)
            texts.append(None)
        return Texts(codes.reshape(-1), tuple(texts) or (None,))

    def numbers(self, name: str) -> Optional[Numbers]:
        """A metric, a virtual column, or a dimension read as numbers; None for a column that does not exist."""
        if name in self._virtual:
            return self._computed(self._virtual[name])
        if name == "__time":
            return Numbers(self.time_ms, None)
        if name in self.block.numbers:
            return self.block.numbers[name]
        if name in self.block.texts:
            return _parsed(self.block.texts[name])
        return None

    def words(self, name: str) -> Optional[NDArray[np.bool_]]:
        """Which rows have a text that is no number, bool [R]; None of a column that is no dimension."""
        if name in self._virtual or name not in self.block.texts:
            return None
        column = self.block.texts[name]
        return np.array([text is not None and np.isnan(_number(text)) for text in column.values])[column.codes]

    def sketch(self, name: str) -> Optional[Sketch]:
        return self.block.sketches.get(name)

    def expression(self, text: str) -> Numbers:
        """An expression's values."""
        return evaluate(text, len(self), self.numbers, self._equal)

    def _computed(self, column: Mapping[str, Any]) -> Numbers:
        if column.get("type") != "expression":
            raise refusal.unsupported(f"a virtual column of type {column.get('type')}")
        inner = Columns(self.block, [c for c in self._virtual.values() if c is not column])
        result = inner.expression(str(column.get("expression")))
        kind = str(column.get("outputType") or "").upper()
        if kind in ("LONG", "DOUBLE", "FLOAT"):
            return result._replace(values=result.values.astype(np.int64 if kind == "LONG" else np.float64))
        return result

    def _equal(self, name: str, text: str) -> Numbers:
        column = self.texts(name)
        same = np.array([value == text for value in column.values], np.int64)
        null = np.array([value is None for value in column.values], bool)
        return Numbers(same[column.codes], null[column.codes] if null.any() else None)


def _parsed(column: Texts) -> Numbers:
    values = np.array([_number(text) for text in column.values])[column.codes]
    null = np.isnan(values)
    return Numbers(np.where(null, 0.0, values), null)


def _number(text: Optional[str]) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError:
        return np.nan
