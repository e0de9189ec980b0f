"""Columns of the catalog fields by item row, for filters."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving import metrics
from stream.ids import NO_KEY, hash_ids

Row = slice | np.ndarray  # all rows below an end, or a list of rows
_INITIAL_ROWS = 1024
_logger = logging.getLogger(__name__)
_UNFILTERED = frozenset({"item_id", "title", "available"})
_BUILT_IN = frozenset({"categories", "creator", "price", "stock", "created_ts"})


@dataclass(frozen=True, slots=True)
class ColumnLimits:
    """Bounds of the memory per item: a value takes 8 bytes in each row of its array."""

    max_arrays: int = 128  # of all attributes together, without the fields that every item may have
    max_list_values: int = 16  # values of one list that count
    max_text: int = 256  # characters; a longer text cannot be filtered by


@dataclass(slots=True)
class ValueColumn:
    """Values of one field: numbers as they are, texts and list values as keys by position."""

    numbers: np.ndarray | None = None  # (capacity,) float64, NaN = none
    keys: list[np.ndarray] = field(default_factory=list)  # (capacity,) uint64 each, 0 = none

    @property
    def arrays(self) -> list[np.ndarray]:
        return self.keys if self.numbers is None else [self.numbers, *self.keys]


@dataclass(slots=True)
class _FieldValues:
    """Values of one field to write, as parallel lists."""

    number_rows: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    text_rows: list[list[int]] = field(default_factory=list)  # by position in a list
    texts: list[list[str]] = field(default_factory=list)

    def add_text(self, position: int, row: int, text: str) -> None:
        while position >= len(self.texts):
            self.text_rows.append([])
            self.texts.append([])
        self.text_rows[position].append(row)
        self.texts[position].append(text)


class ItemColumns:
    """Filterable fields of the catalog, one array per field and position in its list.

    A filter reads whole arrays, so that its cost does not depend on the number of distinct values. The fields are those
    of the item's JSON; an object has its entries as `field.entry`. Those of `attributes` have their own names, but for
    the names of fields that the item itself has or that every item may have: they are `attributes.entry`.
    """

    def __init__(self, limits: ColumnLimits | None = None) -> None:
        self._limits = limits or ColumnLimits()
        self._columns: dict[str, ValueColumn] = {}
        self._capacity = _INITIAL_ROWS
        self.revision = 0  # rises with each change
        self._skipped_names: set[str] = set()

    @property
    def names(self) -> list[str]:
        """Fields that at least one item has had."""
        return list(self._columns)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for column in self._columns.values() for array in column.arrays)

    def get(self, name: str) -> ValueColumn:
        """Column of a field; empty for an unknown one."""
        return self._columns.get(name) or ValueColumn()

    def write(self, rows: np.ndarray, items: Sequence[Mapping[str, Any] | None]) -> None:
        """Replace the fields of n distinct rows; None: the row has none."""
        self.clear(rows)
        for name, values in self._collect(rows.tolist(), items).items():
            column = self._columns.setdefault(name, ValueColumn())
            if values.numbers and self._has_numbers(name, column):
                column.numbers[values.number_rows] = values.numbers  # type: ignore[index]  # the call has made it
            for position, (text_rows, texts) in enumerate(zip(values.text_rows, values.texts, strict=True)):
                if self._has_position(name, column, position):
                    column.keys[position][text_rows] = hash_ids(texts)
                else:
                    self._skip(name, len(texts), f"the attributes have {self._limits.max_arrays} arrays already")

    def clear(self, rows: Row) -> None:
        """Remove all fields of rows."""
        self.revision += 1
        if isinstance(rows, np.ndarray):
            self._reserve(int(rows.max(initial=-1)) + 1)
        for column in self._columns.values():
            for array in column.arrays:
                array[rows] = _empty_value(array)

    def _collect(self, rows: Sequence[int], items: Sequence[Mapping[str, Any] | None]) -> dict[str, _FieldValues]:
        fields: dict[str, _FieldValues] = {}
        for row, item in zip(rows, items, strict=True):
            for name, value in _iter_fields(item or {}):
                values = fields.get(name) or fields.setdefault(name, _FieldValues())
                if isinstance(value, list):
                    self._add_list(name, values, row, value)
                elif isinstance(value, int | float) and not isinstance(value, bool):
                    values.number_rows.append(row)
                    values.numbers.append(_to_float(value))
                elif (text := self._to_text(name, value)) is not None:
                    values.add_text(0, row, text)
        return fields

    def _add_list(self, name: str, values: _FieldValues, row: int, elements: list[Any]) -> None:
        max_values = self._limits.max_list_values
        texts = dict.fromkeys(text for element in elements if (text := self._to_text(name, element)) is not None)
        if len(texts) > max_values:
            self._skip(name, len(texts) - max_values, f"a list has more than {max_values} values")
        for position, text in zip(range(max_values), texts, strict=False):
            values.add_text(position, row, text)

    def _to_text(self, name: str, value: Any) -> str | None:
        """Text of a value; None for one that no filter can name."""
        if isinstance(value, str) and len(value) > self._limits.max_text:
            self._skip(name, 1, f"a text has more than {self._limits.max_text} characters")
            return None
        return value_text(value) if isinstance(value, str | int | float) and value != "" else None

    def _skip(self, name: str, count: int, reason: str) -> None:
        """Count values that no filter finds; the first of each field is logged."""
        metrics.filter_values_skipped.inc(count)
        if name not in self._skipped_names:
            self._skipped_names.add(name)
            _logger.warning("filters do not find some values of the item field %r: %s", name[:64], reason)

    def _has_numbers(self, name: str, column: ValueColumn) -> bool:
        if column.numbers is None and self._has_space(name):
            column.numbers = np.full(self._capacity, np.nan)
        return column.numbers is not None

    def _has_position(self, name: str, column: ValueColumn, position: int) -> bool:
        while position >= len(column.keys) and self._has_space(name):
            column.keys.append(np.zeros(self._capacity, np.uint64))
        return position < len(column.keys)

    def _has_space(self, name: str) -> bool:
        n_arrays = sum(len(column.arrays) for other, column in self._columns.items() if other not in _BUILT_IN)
        return name in _BUILT_IN or n_arrays < self._limits.max_arrays

    def _reserve(self, n_rows: int) -> None:
        if n_rows <= self._capacity:
            return
        growth = 2 * n_rows - self._capacity
        self._capacity += growth
        for column in self._columns.values():
            if column.numbers is not None:
                column.numbers = _extend(column.numbers, growth)
            column.keys = [_extend(keys, growth) for keys in column.keys]


def value_text(value: str | float | bool) -> str:
    """Text of a value that differs from that of each other value, also of another type.

    >>> value_text("1"), value_text(1), value_text(1.0), value_text(True)
    ("'1", '1.0', '1.0', 'True')
    """
    if isinstance(value, str):
        return "'" + value
    return str(value if isinstance(value, bool) else _to_float(value))


def _iter_fields(item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        if isinstance(value, dict):
            for entry, entry_value in value.items():
                is_free = name == "attributes" and entry not in item and entry not in _BUILT_IN
                yield entry if is_free else f"{name}.{entry}", entry_value
        elif name not in _UNFILTERED:
            yield name, value


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return float("nan")


def _empty_value(array: np.ndarray) -> float:
    return np.nan if array.dtype.kind == "f" else NO_KEY


def _extend(array: np.ndarray, growth: int) -> np.ndarray:
    return np.concatenate([array, np.full(growth, _empty_value(array), array.dtype)])
