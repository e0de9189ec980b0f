"""Read Parquet files in batches, in types that records can have."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import polars.selectors as cs

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
            while chunk := file.stream.read(1 << 20):
                copy.write(chunk)
            copy.flush()
            path = copy.name
        try:
            yield from _scan(pl.scan_parquet(path), file.name)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DamagedFile(f"{file.name} is truncated or damaged: {error}; expected a Parquet file") from None


def _starts_as_parquet(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(4) == b"PAR1"


def _scan(scan: pl.LazyFrame, name: str) -> Iterator[RowTable]:
    frame, first = scan.slice(0, BATCH_ROWS).collect(), 0
    while frame.height:
        readable = _convert_types(frame, name)
        yield RowTable(readable, range(first + 1, first + 1 + frame.height), readable.write_ndjson().split("\n")[:-1])
        first += frame.height
        frame = scan.slice(first, BATCH_ROWS).collect()


def _convert_types(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    texts = [_decode_text(column, name) for column in frame.iter_columns() if _has_bytes(column.dtype)]
    fractions = [key for key, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal) and dtype.scale]
    seconds = cs.duration().dt.total_microseconds() / 1e6
    return frame.with_columns(*texts, seconds, pl.col(fractions).cast(pl.Float64))


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
