"""Reads a model file's metadata without loading the model; must not know what the metadata means.

An ONNX file is a protobuf message: its fields are walked at the top level, the graph's megabytes are skipped unread.
Looking at ten thousand files so takes under a second, where opening a session for each would take minutes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, Union

from outliers.errors import ModelInvalid

METADATA_FIELD = 14  # ModelProto.metadata_props: repeated {key = 1, value = 2}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VALUE_BYTES = 2**20


def read_props(path: Union[str, os.PathLike[str]]) -> dict[str, str]:
    """Return the `metadata_props` of an ONNX file; ModelInvalid where it is none or is cut off, OSError unread."""
    props = {}
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        try:
            while file.tell() < size:
                number, kind, value = _field(file, size)
                if number == METADATA_FIELD and kind == _BYTES:
                    entry = dict(_texts(file.read(value)))
                    props[entry.get(1, "")] = entry.get(2, "")
                elif kind == _BYTES:
                    file.seek(value, 1)
        except (EOFError, UnicodeDecodeError) as error:
            raise ModelInvalid("the model file is damaged or is not an ONNX file") from error
    return props


def _field(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Read one field's head: its number, its kind, and its value (for bytes their length, checked)."""
    tag = _varint(file)
    kind = tag & 7
    if kind == _VARINT:
        return tag >> 3, kind, _varint(file)
    if kind in (_FIXED64, _FIXED32):
        file.seek(8 if kind == _FIXED64 else 4, 1)
        return tag >> 3, kind, 0
    if kind != _BYTES:
        raise EOFError
    length = _varint(file)
    if file.tell() + length > size or (tag >> 3 == METADATA_FIELD and length > _LONGEST_VALUE_BYTES):
        raise EOFError
    return tag >> 3, kind, length


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while shift < 64:
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
        shift += 7
    raise EOFError


def _texts(entry: bytes) -> Iterator[tuple[int, str]]:
    """Yield (field number, text) of a message that holds only short texts."""
    file = io.BytesIO(entry)
    while file.tell() < len(entry):
        number, kind, value = _field(file, len(entry))
        if kind == _BYTES:
            yield number, file.read(value).decode("utf-8")
