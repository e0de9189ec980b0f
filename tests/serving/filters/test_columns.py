"""Columns of item fields have bounded memory, and forget replaced values."""

import numpy as np

from serving.filters.columns import ColumnLimits, ItemColumns
from serving.filters.language import Filters
from serving.filters.matching import match
from serving.metrics import filter_values_skipped


def count_matches(columns: ItemColumns, filters: Filters, rows: int) -> int:
    return int(match(columns, filters, slice(0, rows), rows).sum())


def test_replaced_values_no_longer_match() -> None:
    columns = ItemColumns()
    columns.write(np.array([0]), [{"categories": ["a", "b"], "price": 5}])
    columns.write(np.array([0]), [{"categories": ["c"]}])

    assert count_matches(columns, Filters(categories=["a", "b"]), 1) == 0
    assert count_matches(columns, Filters(min_price=0), 1) == 0
    assert count_matches(columns, Filters(categories=["c"]), 1) == 1


def test_columns_grow_with_the_rows() -> None:
    columns = ItemColumns()
    columns.write(np.array([0]), [{"color": "red"}])
    columns.write(np.array([100_000]), [{"color": "red"}])

    assert count_matches(columns, Filters(attributes={"color": "red"}), 100_001) == 2


def test_attributes_beyond_the_limits_are_counted() -> None:
    columns, before = ItemColumns(ColumnLimits(2, 2, 3)), filter_values_skipped._value.get()
    columns.write(np.array([0]), [{"a": "x", "b": ["1", "2", "3"], "c": "y", "d": "long text", "price": 3}])

    assert filter_values_skipped._value.get() == before + 4
    assert count_matches(columns, Filters(min_price=3), 1) == 1
    assert count_matches(columns, Filters(attributes={"a": "x"}), 1) == 1
