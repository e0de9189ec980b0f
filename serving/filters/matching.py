"""Match items against filters, for a list of rows or for the whole catalog."""

import difflib
from collections.abc import Iterator, Sequence

import numpy as np

from serving.filters.columns import ItemColumns, Row, value_text
from serving.filters.language import AttributeCondition, Filters, Value
from stream.ids import hash_ids
from stream.jit import kernel
from stream.records.timestamps import parse_request_time


def match(columns: ItemColumns, filters: Filters, rows: Row, count: int) -> np.ndarray:
    """Mask of the rows, (count,) bool, that pass the filters."""
    mask = np.ones(count, np.bool_)
    for name, condition in _list_conditions(filters):
        mask &= _match_condition(columns, name, condition, rows, count)
    for name, values in (("categories", filters.not_categories), ("creator", filters.not_creators)):
        if values:
            mask &= ~_match_any(columns, name, values, rows, count)
    for child in filters.all_of or ():
        mask &= match(columns, child, rows, count)
    if filters.any_of is not None:
        passing = np.zeros(count, np.bool_)
        for child in filters.any_of:
            passing |= match(columns, child, rows, count)
        mask &= passing
    if filters.none_of is not None:
        mask &= ~match(columns, filters.none_of, rows, count)
    return mask


def explain_unknown_attributes(columns: ItemColumns, filters: Filters) -> str:
    """Sentence about the first attribute of the filters that no item has, or ""."""
    for name in _iter_attributes(filters):
        if name not in columns.names:
            nearest = difflib.get_close_matches(name, columns.names, 1, 0)
            return f"no item has the attribute {name!r}" + (f"; the nearest is {nearest[0]!r}" if nearest else "")
    return ""


def _iter_attributes(filters: Filters) -> Iterator[str]:
    yield from filters.attributes or ()
    for child in filters.children:
        yield from _iter_attributes(child)


def _list_conditions(filters: Filters) -> list[tuple[str, AttributeCondition]]:
    """Conditions by field; the named ones are those of the fields that every item may have."""
    conditions: list[tuple[str, AttributeCondition]] = []
    for name, values in (("categories", filters.categories), ("creator", filters.creators)):
        if values is not None:
            conditions.append((name, AttributeCondition(is_in=list(values))))
    if filters.all_categories:
        conditions.append(("categories", AttributeCondition(contains=list(filters.all_categories))))
    ranges = (
        ("price", filters.min_price, filters.max_price),
        ("stock", filters.min_stock, None),
        ("created_ts", _to_time(filters.created_after), _to_time(filters.created_before)),
    )
    conditions += [
        (name, AttributeCondition(min=low, max=high))
        for name, low, high in ranges
        if low is not None or high is not None
    ]
    for name, condition in (filters.attributes or {}).items():
        conditions.append((name, _to_condition(condition)))
    return conditions


def _to_condition(condition: AttributeCondition | Value | list[Value]) -> AttributeCondition:
    if isinstance(condition, AttributeCondition):
        return condition
    return AttributeCondition(is_in=condition if isinstance(condition, list) else [condition])


def _to_time(time: int | str | None) -> float | None:
    return None if time is None else float(parse_request_time("created_ts", time))


def _match_condition(
    columns: ItemColumns, name: str, condition: AttributeCondition, rows: Row, count: int
) -> np.ndarray:
    mask = np.ones(count, np.bool_)
    if condition.equal is not None:
        mask &= _match_any(columns, name, [condition.equal], rows, count)
    if condition.is_in is not None:
        mask &= _match_any(columns, name, condition.is_in, rows, count)
    for value in condition.contains or ():
        mask &= _match_any(columns, name, [value], rows, count)
    if condition.min is not None or condition.max is not None:
        mask &= _match_range(columns, name, condition.min, condition.max, rows, count)
    return mask


def _match_any(columns: ItemColumns, name: str, values: Sequence[Value], rows: Row, count: int) -> np.ndarray:
    """Mask of the rows whose field, or a value of its list, is one of the values."""
    column, mask = columns.get(name), np.zeros(count, np.bool_)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if column.numbers is not None:
        for number in numbers:
            mask |= column.numbers[rows] == number
    keys = np.sort(hash_ids([value_text(value) for value in values if value != ""]))
    for position in column.keys if keys.size else ():
        _mark_members(position[rows], keys, mask)
    return mask


def _match_range(
    columns: ItemColumns, name: str, low: float | None, high: float | None, rows: Row, count: int
) -> np.ndarray:
    numbers = columns.get(name).numbers
    if numbers is None:
        return np.zeros(count, np.bool_)
    mask: np.ndarray = numbers[rows] >= (-np.inf if low is None else low)
    return mask if high is None else mask & (numbers[rows] <= high)


@kernel
def _mark_members(column: np.ndarray, keys: np.ndarray, mask: np.ndarray) -> None:
    """Set the mask of the rows whose key is one of the sorted keys."""
    if keys.size == 1:
        key = keys[0]
        for i in range(column.size):
            mask[i] |= column[i] == key
        return
    # Most rows fail a test by the low 6 bits of their key, before the search.
    low_bits = np.uint64(0)
    for key in keys:
        low_bits |= np.uint64(1) << (key & np.uint64(63))
    for i in range(column.size):
        if low_bits >> (column[i] & np.uint64(63)) & np.uint64(1):
            found = np.searchsorted(keys, column[i])
            mask[i] |= found < keys.size and keys[found] == column[i]
