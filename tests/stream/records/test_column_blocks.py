"""Blocks round-trip plain values and columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from stream.records.column_blocks import decode_block, encode_block

DTYPES = st.sampled_from(["uint8", "int16", "int32", "int64", "uint64", "float32", "bool"])
COLUMNS = st.dictionaries(
    st.text(max_size=8), DTYPES.flatmap(lambda dtype: nps.arrays(dtype, nps.array_shapes(max_dims=3, min_side=0)))
)
PLAIN = st.integers(-(2**62), 2**62) | st.text(st.characters(exclude_categories=["Cs"])) | st.booleans()
HEADERS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), PLAIN)


@given(HEADERS, COLUMNS)
def test_block_round_trips(header: dict[str, object], columns: dict[str, np.ndarray]) -> None:
    decoded_header, decoded_columns = decode_block(encode_block(header, columns))

    assert decoded_header == header
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in decoded_columns.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in columns.items()
    }


def test_decoded_columns_are_read_only() -> None:
    _, columns = decode_block(encode_block({}, {"a": np.arange(3)}))

    with pytest.raises(ValueError, match="read-only"):
        columns["a"][0] = 1


def test_strided_column_is_encoded_contiguously() -> None:
    _, columns = decode_block(encode_block({}, {"a": np.arange(10)[::2]}))

    assert columns["a"].tolist() == [0, 2, 4, 6, 8]
