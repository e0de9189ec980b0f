"""Turn JSON objects into a table of the columns that a mapping names."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import polars as pl

from replay.files.sources.tables import Refusal, RowTable, describe_bad_text
from stream.records.events import Rejection

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class JsonTable(NamedTuple):
    """Table of JSON lines."""

    table: RowTable
    lines: Sequence[int]  # index of the line of each row
    elements: Sequence[int]  # number of the element that each row stands for


def read_objects(
    lines: Sequence[bytes], places: Sequence[int]
) -> tuple[list[dict[str, Any]], list[int], list[Refusal]]:
    """Decode lines to objects; returns them, their indices, and the lines that are no objects."""
    try:
        return list(map(_decode, lines)), list(range(len(lines))), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # find the lines that are none
    rows: list[dict[str, Any]] = []
    indices: list[int] = []
    refused: list[Refusal] = []
    for i, line in enumerate(lines):
        try:
            rows.append(_decode(line))
            indices.append(i)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused.append(Refusal(places[i], explain_bad_json(line, error), line))
    return rows, indices, refused


def explain_bad_json(line: bytes, error: Exception) -> Rejection:
    if isinstance(error, UnicodeDecodeError) or not _is_utf8(line):
        return Rejection("not_utf8", describe_bad_text(line))
    if isinstance(error, msgspec.ValidationError):
        return Rejection("not_object", f"{error}; a record is a JSON object")
    return Rejection("not_json", f"not JSON in UTF-8: {error}")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def make_table(
    lines: Sequence[bytes],
    places: Sequence[int],
    texts: Sequence[str],
    columns: Sequence[str],
    lists: Collection[str],
    each: str,
) -> JsonTable:
    """Build the table of JSON lines; a column is a path such as `properties.product_id`.

    With `each`, the path of a list, there is one row per element. `texts` are the lines as text.
    """
    records, indices, refused = read_objects(lines, places)
    elements: Sequence[int] = [0] * len(records)
    values: Sequence[Any] = records
    if each:
        expanded = [
            (i, n, row, element) for i, row in zip(indices, records, strict=True) for n, element in _expand(row, each)
        ]
        indices, elements = [i for i, *_ in expanded], [n for _, n, *_ in expanded]
        records, values = [row for *_, row, _ in expanded], [element for *_, element in expanded]
    series = []
    for name in columns:
        is_inner = bool(each) and name.startswith(f"{each}.")
        found = _find_values(values, name[len(each) + 1 :]) if is_inner else _find_values(records, name)
        series.append(_make_series(name, found, name in lists))
    frame = pl.DataFrame(series) if series else pl.DataFrame({"_": [None] * len(records)})
    table = RowTable(frame, [places[i] for i in indices], [texts[i] for i in indices], refused)
    return JsonTable(table, indices, elements)


def _expand(row: dict[str, Any], each: str) -> list[tuple[int, Any]]:
    elements = find_value(row, each)
    return list(enumerate(elements)) if isinstance(elements, list) and elements else [(0, None)]


def _find_values(rows: Sequence[Any], path: str) -> list[Any]:
    if "." not in path and all(type(row) is dict for row in rows):
        return [row.get(path) for row in rows]
    return [find_value(row, path) for row in rows]


def _make_series(name: str, values: list[Any], is_list: bool) -> pl.Series:
    if is_list and any(isinstance(value, list) for value in values):
        return pl.Series(name, [to_texts(value) for value in values], pl.List(pl.String))
    try:
        return pl.Series(name, values, pl.String)
    except TypeError:  # not all are text
        return pl.Series(name, [str(value) if type(value) is int else to_text(value) for value in values], pl.String)


def find_value(row: Any, path: str) -> Any:
    """Value at a path; in a list, the values of its elements."""
    if isinstance(row, list):
        return [value for element in row if (value := find_value(element, path)) is not None]
    if not isinstance(row, dict):
        return None
    if path in row:
        return row[path]
    name, _, rest = path.partition(".")
    return find_value(row[name], rest) if rest and name in row else None


def to_text(value: Any) -> str | None:
    """Text of a JSON value, or of the first element of a list."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return to_text(value[0]) if value else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return msgspec.json.encode(value).decode()


def to_texts(value: Any) -> list[str] | None:
    """Texts of a list, of the lists in it too; None stays None."""
    if value is None:
        return None
    if not isinstance(value, list):
        value = [value]
    nested = (to_texts(element) if isinstance(element, list) else [to_text(element)] for element in value)
    return [text for texts in nested for text in texts or () if text]
