"""Blocks on the wire: a small header and named numeric columns, without pickle."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np


class _Column(msgspec.Struct, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class _Block(msgspec.Struct):
    header: dict[str, Any]
    columns: dict[str, _Column]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Block)


def encode_block(header: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> bytes:
    """Encode a block; columns keep their type and shape, little-endian."""
    column_records = {
        name: _Column(
            array.dtype.str, array.shape, np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
        )
        for name, array in columns.items()
    }
    return _encoder.encode(_Block(dict(header), column_records))


def decode_block(value: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Decode the header and the columns of a block; the columns are read-only views of `value`.

    >>> header, columns = decode_block(encode_block({"from": 3}, {"a": np.arange(2)}))
    >>> header, columns["a"].tolist()
    ({'from': 3}, [0, 1])
    """
    block = _decoder.decode(value)
    columns = {
        name: np.frombuffer(column.data, column.dtype).reshape(column.shape) for name, column in block.columns.items()
    }
    return block.header, columns
