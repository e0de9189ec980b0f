"""Read Parquet files in batches, in types that records can have."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl

from replay.files.sources.compression import DamagedFile
from replay.files.sources.input_file import InputFile
from replay.files.sources.tables import BATCH_ROWS, RowTable


def read_parquet(file: InputFile) -> Iterator[RowTable]:
    """Read batches of a Parquet file: bytes become text, durations seconds, decimals floats.

    Standard input and compressed files go through a temporary file. ValueError names a column of bytes that are not
    text; `DamagedFile`: the file is truncated.
    """
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
        path = file.path
        if path == "-" or not _starts_as_parquet(path):
            _copy(file, copy)
            path = copy.name
        try:
            yield from _scan(pl.scan_parquet(path), file.name)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            raise DamagedFile(f"{file.name} is truncated or damaged: it is no complete Parquet file") from None


def _copy(file: InputFile, copy: IO[bytes]) -> None:
    while chunk := file.stream.read(1 << 20):
        try:
            copy.write(chunk)
            copy.flush()
        except OSError as error:
            advice = f"free space in {tempfile.gettempdir()}, or set TMPDIR to another folder"
            raise ValueError(f"{file.name}: its temporary copy cannot be written: {error.strerror}; {advice}") from None


def _starts_as_parquet(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(4) == b"PAR1"


def _scan(scan: pl.LazyFrame, name: str) -> Iterator[RowTable]:
    frame, first = scan.slice(0, BATCH_ROWS).collect(), 0
    while frame.height:
        readable = pl.DataFrame([_convert_column(column, name) for column in frame.iter_columns()])
        yield RowTable(readable, range(first + 1, first + 1 + frame.height), _write_lines(readable, name))
        first += frame.height
        frame = scan.slice(first, BATCH_ROWS).collect()


def _write_lines(frame: pl.DataFrame, name: str) -> list[str]:
    try:
        return frame.write_ndjson().split("\n")[:-1]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        types = ", ".join(f"{column} {dtype}" for column, dtype in frame.schema.items() if dtype.is_nested())
        detail = f"{name}: a column cannot be written as JSON, perhaps one of {types}"
        raise ValueError(f"{detail}; write the file without it") from None


def _convert_column(column: pl.Series, name: str) -> pl.Series:
    """Convert a column, or the elements of its lists, to a type that records can have."""
    if _has_bytes(column.dtype):
        return _decode_text(column, name)
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    is_list = isinstance(column.dtype, pl.List)
    dtype = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
    if dtype == pl.Duration:
        seconds = pl.element() if is_list else pl.col(column.name)
        seconds = seconds.dt.total_microseconds() / 1e6
        return column.to_frame().select(pl.col(column.name).list.eval(seconds) if is_list else seconds).to_series()
    plain = _plain_type(dtype)
    return column if plain is None else column.cast(pl.List(plain) if is_list else plain)


def _plain_type(dtype: Any) -> Any:
    """Type of records to cast a type to; None if it is one."""
    if isinstance(dtype, pl.Decimal):
        return pl.Float64 if dtype.scale else None
    is_text = isinstance(dtype, pl.Categorical | pl.Enum | pl.Time | pl.Null)
    return pl.String if is_text else None


def _has_bytes(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Struct):
        return any(_has_bytes(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]
    return _has_bytes(dtype.inner) if isinstance(dtype, pl.List | pl.Array) else dtype == pl.Binary  # type: ignore[arg-type]


def _decode_text(column: pl.Series, name: str) -> pl.Series:
    """Decode bytes as UTF-8: writers of older Parquet versions do not mark text as such."""
    if column.dtype != pl.Binary:
        raise ValueError(f"{name}: column {column.name!r} is of type {column.dtype}; expected text in place of bytes")
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        advice = "convert it to text, or write the file without it"
        raise ValueError(f"{name}: column {column.name!r} has bytes that are not UTF-8 text: {advice}") from None
