"""Druid's distinct counts: the hash, the registers and the estimate of hyperUnique; knows nothing of rows or queries.

Source: Druid, org.apache.druid.hll.HyperLogLogCollector (2,048 registers, linear counting below 5,120) over Guava's
murmur3_128, so that the estimates are Druid's own to the last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from outliers.series import distinct

REGISTERS = 2048
_LOW = 5 * REGISTERS // 2
_ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)
_MASK = (1 << 64) - 1
_RANKS = 128
_MOST = 15  # a register is half a byte: a rank beyond it is kept beside the registers, for one alone, and not counted


def registers_of(value: bytes) -> tuple[int, int]:
    """(register, rank) of one value."""
    digest = murmur3_128(value)
    register = int.from_bytes(digest[-2:], "big") & (REGISTERS - 1)
    leading = int.from_bytes(digest[:8], "big")
    return register, 65 - leading.bit_length() if leading else 64


def entries_of(bucket: NDArray[np.int64], register: NDArray[Any], rank: NDArray[Any]) -> NDArray[np.int64]:
    """(bucket, register, rank) of many values as one number each, sorted, each once."""
    return distinct((bucket * REGISTERS + register) * _RANKS + rank)


def estimates(entries: NDArray[np.int64], buckets: int) -> NDArray[np.float64]:
    """Distinct values in each bucket, float64 [buckets], from entries as `entries_of` makes them."""
    entries = distinct(entries)
    entries = entries[entries % _RANKS <= _MOST]
    cell, ranks = entries // _RANKS, entries % _RANKS
    highest = np.append(cell[1:] != cell[:-1], True) if len(cell) else np.empty(0, bool)
    cell, ranks = cell[highest], ranks[highest]
    where = cell // REGISTERS
    filled = np.bincount(where, minlength=buckets)
    power = np.bincount(where, weights=np.exp2(-ranks.astype(np.float64)), minlength=buckets)
    zeros = REGISTERS - filled
    raw = _ALPHA * REGISTERS * REGISTERS / (power + zeros)
    linear = REGISTERS * np.log(REGISTERS / np.maximum(zeros, 1))
    estimate: NDArray[np.float64] = np.where((raw <= _LOW) & (zeros > 0), linear, raw)
    return estimate


def murmur3_128(data: bytes) -> bytes:
    """MurmurHash3 x64 128 with seed 0, as Guava writes its bytes."""
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    h1 = h2 = 0
    whole = len(data) // 16 * 16
    for i in range(0, whole, 16):
        k1 = int.from_bytes(data[i : i + 8], "little")
        k2 = int.from_bytes(data[i + 8 : i + 16], "little")
        h1 ^= _rotated(k1 * c1 & _MASK, 31) * c2 & _MASK
        h1 = (_rotated(h1, 27) + h2) * 5 + 0x52DCE729 & _MASK
        h2 ^= _rotated(k2 * c2 & _MASK, 33) * c1 & _MASK
        h2 = (_rotated(h2, 31) + h1) * 5 + 0x38495AB5 & _MASK
    k1 = int.from_bytes(data[whole : whole + 8], "little")
    k2 = int.from_bytes(data[whole + 8 :], "little")
    h2 ^= _rotated(k2 * c2 & _MASK, 33) * c1 & _MASK
    h1 ^= _rotated(k1 * c1 & _MASK, 31) * c2 & _MASK
    h1, h2 = h1 ^ len(data), h2 ^ len(data)
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    h1, h2 = _mixed(h1), _mixed(h2)
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    return h1.to_bytes(8, "little") + h2.to_bytes(8, "little")


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mixed(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33
