"""The arithmetic's operations on torch tensors with any leading batch axes; it must not know the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Number = Union[int, float, Tensor]
_KINDS = {"half": torch.float16, "float": torch.float32, "double": torch.float64, "int": torch.int64}


class TorchOps:
    """Rows are the axis before the last, columns the last; integers are int64 tensors, as in the graph."""

    def constant(self, array: NDArray, kind: str) -> Tensor:
        return torch.as_tensor(np.asarray(array)).to(_KINDS[kind])

    def length(self, x: Tensor) -> Tensor:
        return torch.tensor(x.shape[-2] if x.dim() > 1 else x.shape[0])

    def arange(self, count: Number) -> Tensor:
        return torch.arange(int(count))

    def to_float(self, x: Tensor) -> Tensor:
        return x.float()

    def to_int(self, x: Tensor) -> Tensor:
        return x.long()

    def index_of(self, x: Tensor, values: NDArray[np.int64]) -> Tensor:
        return (x == torch.as_tensor(values)).float().argmax()

    def log(self, x: Tensor) -> Tensor:
        return torch.log(x)

    def exp(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def floor(self, x: Tensor) -> Tensor:
        return torch.floor(x)

    def sqrt(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)

    def abs(self, x: Tensor) -> Tensor:
        return torch.abs(x)

    def activation(self, x: Tensor) -> Tensor:
        return functional.hardswish(x)

    def minimum(self, x: Tensor, y: Number) -> Tensor:
        return torch.minimum(x, torch.as_tensor(y, dtype=x.dtype))

    def maximum(self, x: Tensor, y: Number) -> Tensor:
        return torch.maximum(x, torch.as_tensor(y, dtype=x.dtype))

    def clip(self, x: Tensor, low: Number, high: Number) -> Tensor:
        return torch.clamp(x, float(low), float(high))

    def observed(self, x: Tensor) -> Tensor:
        return ~torch.isnan(x)

    def where(self, condition: Tensor, x: Number, y: Number) -> Tensor:
        return torch.where(condition, x, y)

    def pick(self, x: Tensor, index: Number) -> Tensor:
        return x[int(index)]

    def rows(self, x: Tensor, index: Tensor) -> Tensor:
        return x.index_select(-2, index.reshape(-1)).unflatten(-2, tuple(index.shape))

    def rows_from(self, x: Tensor, first: Number) -> Tensor:
        """The rows from `first` on."""
        return x[..., int(first) :, :]

    def split(self, x: Tensor, sizes: Sequence[int], axis: int = -1) -> list[Tensor]:
        return list(torch.split(x, list(sizes), axis))

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), -1)

    def stack(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows of the parts below one another."""
        return torch.cat(list(parts))

    def column(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1)

    def zero_row_first(self, x: Tensor, width: int) -> Tensor:
        return functional.pad(x, (0, 0, 1, 0))

    def sum_last(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True)

    def mean_rows(self, x: Tensor) -> Tensor:
        return x.mean(-2, keepdim=True)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return x.reshape(tuple(shape))

    def merge_windows(self, x: Tensor) -> Tensor:
        """[..., U, M, W] -> [..., U*M, W]."""
        return x.flatten(-3, -2)

    def phases(self, x: Tensor) -> Tensor:
        """[..., N, 4] -> [..., 4, N, 1]."""
        return x.transpose(-1, -2).unsqueeze(-1)

    def spread_over_phases(self, x: Tensor) -> Tensor:
        """[..., N, W] as what broadcasts over the phases before it: [..., 1, N, W]."""
        return x.unsqueeze(-3)

    def split_metrics(self, x: Tensor, metrics: int, width: int) -> Tensor:
        """[..., 4, U*M, H] -> [..., 4, U, M, H]."""
        return x.unflatten(-2, (-1, metrics))

    def merge_metrics(self, x: Tensor, width: int) -> Tensor:
        """[..., 4, U, M, H] -> [..., 4, U*M, H]."""
        return x.flatten(-3, -2)

    def split_last(self, x: Tensor, parts: int, width: int) -> Tensor:
        return x.reshape(*x.shape[:-1], parts, width)

    def merge_last(self, x: Tensor, width: int) -> Tensor:
        return x.reshape(*x.shape[:-2], width)

    def rows_of_places(self, x: Tensor, metrics: int, places: int) -> Tensor:
        """[..., 4, U*M, A] -> [..., 4*U*A, M]."""
        split = x.unflatten(-2, (-1, metrics)).transpose(-1, -2)  # [..., 4, U, A, M]
        return split.flatten(-4, -2)

    def swap(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    def total(self, x: Tensor) -> Tensor:
        """[P, T, M] -> [T, M]."""
        return x.sum(0)

    def split_last_axis(self, x: Tensor, parts: int, width: int) -> Tensor:
        """[..., T, S * N] -> [..., T, S, N]."""
        return x.unflatten(-1, (parts, width))

    def beside_scales(self, x: Tensor) -> Tensor:
        """[..., T, M] as what broadcasts over the scales: [..., T, 1, M]."""
        return x.unsqueeze(-2)

    def most_of_scales(self, x: Tensor) -> Tensor:
        """[..., T, S, M] -> [..., T, M]."""
        return x.amax(-2)

    def least_of_scales(self, x: Tensor) -> Tensor:
        """[..., T, S, M] -> [..., T, M]."""
        return x.amin(-2)

    def scale(self, x: Tensor, which: int) -> Tensor:
        """[..., T, S, M] -> [..., T, M]."""
        return x[..., which, :]

    def running_sum(self, x: Tensor, width: int, count: Number) -> Tensor:
        """Sums of the rows before each row, and of all: [..., T + 1, width] in float64."""
        return functional.pad(torch.cumsum(x, -2, dtype=torch.float64), (0, 0, 1, 0))

    def between(self, sums: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What lies in rows low to high - 1 [T], from running sums, as float32: [..., T, width]."""
        return (self.rows(sums, high) - self.rows(sums, low)).float()

    def between_of_parts(self, sums: Tensor, low: Tensor, high: Tensor, parts: int, width: int) -> Tensor:
        """The same for parts of the columns, each with its own rows [T, parts]: [..., T, parts, width]."""
        each = enumerate(sums.split(width, -1))
        return torch.stack([self.between(x, low[:, i], high[:, i]) for i, x in each], -2)
