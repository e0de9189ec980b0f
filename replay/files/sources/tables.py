"""Read rows in batches as tables of text or typed columns."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import polars as pl

from replay.files.sources.batching import batches_until_error
from replay.files.sources.compression import DamagedFile
from replay.files.sources.input_file import InputFile
from stream.records.events import Rejection

BATCH_ROWS = 20_000
_MAX_FIELD_CHARS = 1 << 24
_UNIT_SEPARATOR = "\x1f"  # stands for a separator of two characters


@dataclass(frozen=True, slots=True)
class Refusal:
    """Record of a file that cannot be read as an event, an item or a user."""

    place: int
    rejection: Rejection
    raw: bytes


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of a file as columns, with the place and the original text of each row."""

    frame: pl.DataFrame
    places: Sequence[int]
    texts: Sequence[str]
    refused: Sequence[Refusal] = field(default=())


def read_header(head: bytes, separator: str) -> list[str]:
    """Cells of the first row."""
    rows = _read_rows(io.StringIO(head.decode(errors="surrogateescape"), newline=""), separator, "")
    return [cell.strip() for cell in next(rows, [])]


def read_delimited(file: InputFile, separator: str, columns: Sequence[str]) -> Iterator[RowTable]:
    """Read batches of delimited text; `columns` names the columns of a file without a header.

    `DamagedFile`: a quote that is opened is never closed, or the file is truncated.
    """
    text = io.TextIOWrapper(file.stream, encoding="utf-8", errors="surrogateescape", newline="")
    rows = _read_rows(text, separator, file.name)
    names = list(columns) or unique_names(next(rows, []))
    place = 0 if columns else 1
    for batch in batches_until_error(rows, BATCH_ROWS):
        yield _make_table(batch, names, place, separator)
        place += len(batch)


def _read_rows(text: IO[str], separator: str, name: str) -> Iterator[list[str]]:
    csv.field_size_limit(_MAX_FIELD_CHARS)
    lines: Iterable[str] = text
    if len(separator) > 1:
        lines = _replace_each(text, separator, _UNIT_SEPARATOR)
        separator = _UNIT_SEPARATOR
    has_quotes = separator not in ("\t", _UNIT_SEPARATOR)  # names such as "Weird Al" Yankovic stand in such files
    # Strict: otherwise a quote that is opened and never closed takes all rows behind it into its cell.
    reader = csv.reader(
        lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE, strict=True
    )
    row_line = 1  # on which the row begins
    try:
        for row in reader:
            if row:
                yield row
            row_line = reader.line_num + 1
    except csv.Error as error:
        detail = f"{error} in the row that begins there; expected quotes that open and close in each cell"
        raise DamagedFile(f"{name} cannot be read from line {row_line:,} on: {detail}") from None


def _replace_each(lines: Iterable[str], old: str, new: str) -> Iterator[str]:
    for line in lines:
        yield line.replace(old, new)


def unique_names(cells: Sequence[str]) -> list[str]:
    """Column names of a header: an empty one gets its number, and so does a repeated one."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = cell.strip() or f"column_{number}"
        names.append(f"{name}_{number}" if name in names else name)
    return names


def _make_table(rows: list[list[str]], names: Sequence[str], first: int, separator: str) -> RowTable:
    width = len(names)
    texts = [separator.join(row) for row in rows]
    whole = "".join(texts)
    places: Sequence[int] = range(first + 1, first + 1 + len(rows))
    refused: list[Refusal] = []
    if set(map(len, rows)) != {width} or not _is_utf8(whole):
        results = [_check_row(row, text, names) for row, text in zip(rows, texts, strict=True)]
        encoded = [text.encode(errors="surrogateescape") for text in texts]
        refused = [Refusal(places[i], error, encoded[i]) for i, error in enumerate(results) if error]
        good = [i for i, error in enumerate(results) if not error]
        rows, texts, places = [rows[i] for i in good], [texts[i] for i in good], [places[i] for i in good]
    columns = list(zip(*rows, strict=True)) or [()] * width
    series = [pl.Series(name, column, pl.String) for name, column in zip(names, columns, strict=True)]
    return RowTable(pl.DataFrame(series), places, texts, refused)


def _check_row(row: Sequence[str], text: str, names: Sequence[str]) -> Rejection | None:
    if len(row) != len(names):
        return Rejection("column_count", f"the row has {len(row)} columns; expected {len(names)}: {', '.join(names)}")
    return None if _is_utf8(text) else Rejection("not_utf8", describe_bad_text(text.encode(errors="surrogateescape")))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a surrogate stands for a byte that is not UTF-8
        return False
    return True


def describe_bad_text(raw: bytes) -> str:
    """Sentence about the first byte that is not UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        place = f"byte 0x{raw[error.start]:02x} at position {error.start} is not UTF-8"
        return f"{place}; if the file is in Latin-1, convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE"
    return "not UTF-8"
