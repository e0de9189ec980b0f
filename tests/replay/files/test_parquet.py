"""Columns of Parquet files: every type is read as a value of records, or refused by name."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from replay.files.options import ReadOptions
from replay.files.reading import RecordReader

_SCALARS: dict[str, list[Any]] = {
    "boolean": [True, False], "integer": [1, 2], "float": [1.5, float("nan")], "text": ["a", None],
    "bytes": [b"a", b"b"], "decimal": [Decimal("1.5"), None], "date": [date(2026, 1, 1), None], "time": [time(1), None],
    "datetime": [datetime(2026, 1, 1, tzinfo=UTC), None], "duration": [timedelta(1), None],
}  # fmt: skip
_COLUMNS = {name: pl.Series(values) for name, values in _SCALARS.items()} | {
    "categorical": pl.Series(["a", "b"], dtype=pl.Categorical),
    "enum": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
    "null": pl.Series([None, None], dtype=pl.Null),
    "integer of 128 bits": pl.Series([2**70, 1], dtype=pl.Int128),
    "array": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
}
_NESTINGS = {"scalar": pl.col("x"), "list": pl.col("x").implode().over(pl.int_range(2)), "struct": pl.struct(y="x")}
_FIELDS = ("ts", "item_id", "value", "categories", "propensities", "available", "type", "color")


def write_events(path: Path, **columns: Any) -> Path:
    """Write two events; `columns` replace theirs."""
    events = {"item_id": ["a", "b"], "user_id": ["u", "v"], "type": ["click", "click"], "ts": [1, 2]}
    pl.DataFrame(events | columns).write_parquet(path)
    return path


def find_error(path: Path) -> str:
    """Error of a file of events; empty if it is read to its end."""
    try:
        list(RecordReader(str(path), ReadOptions(kind="events")).batches())
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("nesting", _NESTINGS)
@pytest.mark.parametrize("column", _COLUMNS.values(), ids=_COLUMNS)
def test_every_column_type_is_read_or_named(column: pl.Series, nesting: str, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    nested = pl.DataFrame({"x": column}).select(_NESTINGS[nesting]).to_series()
    errors = {field: find_error(write_events(path, **{field: nested})) for field in _FIELDS}

    assert all(text.startswith(f"{path}: column {field!r} ") for field, text in errors.items() if text)


@pytest.mark.parametrize(
    ("field", "values", "type_name"),
    [("ts", [True, False], "Boolean"), ("item_id", [["a"], ["b"]], "List"), ("value", [{"x": 1}, {"x": 2}], "Struct")],
)
def test_column_that_cannot_become_its_field_is_named(
    field: str, values: list[Any], type_name: str, tmp_path: Path
) -> None:
    path = write_events(tmp_path / "events.parquet", **{field: values})

    assert f"{path}: column {field!r} has values of type {type_name}, which cannot become {field}" in find_error(path)


def test_list_without_separators_keeps_its_elements(tmp_path: Path) -> None:
    columns = {"categories": [["a", "b"], []], "dwell": [[timedelta(seconds=1)], None]}
    path = write_events(tmp_path / "items.parquet", **columns)
    (batch,) = RecordReader(str(path), ReadOptions(kind="items")).batches()

    assert [b'"categories":["a","b"]' in line for _, line in batch.parsed.items if line] == [True, False]
    assert [b'"dwell":[1.0]' in line for _, line in batch.parsed.items if line] == [True, False]


def test_value_that_is_null_is_missing(tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.parquet", ts=[None, 2])
    (batch,) = RecordReader(str(path), ReadOptions()).batches()

    assert [refusal.rejection.detail for refusal in batch.parsed.refused] == ["ts has no value"]
