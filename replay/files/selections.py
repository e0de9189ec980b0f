"""Turn tables into JSON lines: one record for each selected row."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from replay.files.columns import FieldColumn, build_column
from replay.files.mapping import FieldMap, RowSelection
from replay.files.sources.tables import Refusal, RowTable
from stream.records.events import Rejection

_ROW, _ELEMENT = "\x1frow", "\x1felement"


@dataclass(frozen=True, slots=True)
class Lines:
    """Records as JSON lines with their places; what is refused and, by reason, skipped."""

    lines: list[bytes]
    places: list[int]
    rows: list[int]  # of the table
    refused: list[Refusal] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


class RowIds(NamedTuple):
    """Base of the event id of each row, and the element of its list that the row stands for."""

    ids: Sequence[str]
    elements: Sequence[int] | None = None


def select_records(
    table: RowTable, row_ids: RowIds | None, selection: RowSelection, number: int, keep_others: bool
) -> Lines:
    """Build the records of a selection; a row whose value cannot be converted is refused.

    Without `row_ids`, the records get no event id. `keep_others` keeps the columns that no field uses.
    """
    frame = table.frame.with_row_index(_ROW)
    elements = row_ids.elements if row_ids else None
    frame = frame.with_columns(pl.Series(_ELEMENT, elements or np.zeros(frame.height, np.int64), pl.Int64))
    if selection.each and elements is None:
        frame = _explode(frame, selection.each)
    if selection.where:
        frame = frame.filter(parse_condition(selection.where, frame.schema))
    fields = selection.field_maps(frame.columns)
    columns = [build_column(field, frame.schema) for field in fields]
    failed, refused = _find_failures(frame, columns, table)
    skipped = _count_skipped(frame, columns)
    frame = frame.filter(~failed & _has_type(columns))
    if not frame.height:
        return Lines([], [], [], refused, skipped)
    rows: list[int] = frame[_ROW].to_list()
    out = _nest(frame.select(column.value for column in columns))
    if row_ids is not None and "event_id" not in out.columns:
        out = out.with_columns(_make_event_ids(frame, row_ids, number))
    if keep_others:
        out = pl.concat([out, _other_columns(frame, fields, out.columns)], how="horizontal")
    out = out.select(name for name in out.columns if out[name].null_count() < out.height)
    lines = out.write_ndjson().encode().split(b"\n")[: out.height]
    return Lines(lines, [table.places[row] for row in rows], rows, refused, skipped)


def _explode(frame: pl.DataFrame, each: str) -> pl.DataFrame:
    """Return one row per element of the column of a list."""
    name, _, separator = each.partition(":")
    column = pl.col(name).str.split(separator) if separator and frame.schema[name] == pl.String else pl.col(name)
    exploded = frame.with_columns(column).explode(name)
    return exploded.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(_ROW).alias(_ELEMENT))


def parse_condition(where: str, schema: pl.Schema) -> pl.Expr:
    """Parse COLUMN=VALUE, COLUMN!=VALUE or COLUMN~PATTERN."""
    match = re.match(r"(.+?)(!=|=|~)(.*)", where)
    if not match or match[1] not in schema:
        return pl.lit(False)
    text = pl.col(match[1]).cast(pl.String).fill_null("")
    if match[2] == "~":
        return text.str.contains(match[3])
    return text == match[3] if match[2] == "=" else text != match[3]


def _find_failures(
    frame: pl.DataFrame, columns: Sequence[FieldColumn], table: RowTable
) -> tuple[pl.Series, list[Refusal]]:
    """Return the rows, (n,) bool, of which a value cannot be converted, and their refusals."""
    failed = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
    refused: list[Refusal] = []
    for column in columns:
        if not column.can_fail or column.source is None:
            continue
        is_bad = frame.select(column.is_bad.alias("bad"))["bad"]
        if not is_bad.any():
            continue
        new = frame.select(pl.col(_ROW), column.source.cast(pl.String).alias("text")).filter(is_bad & ~failed)
        reason = "bad_ts" if column.field.conversion == "time" else "bad_value"
        for row, text in new.iter_rows():
            rejection = Rejection(reason, column.describe(str(text)))
            refused.append(Refusal(table.places[row], rejection, table.texts[row].encode()))
        failed = failed | is_bad
    return failed, refused


def _type_column(columns: Sequence[FieldColumn]) -> FieldColumn | None:
    return next((c for c in columns if c.field.conversion == "type" and c.source is not None and c.field.types), None)


def _has_type(columns: Sequence[FieldColumn]) -> pl.Expr:
    column = _type_column(columns)
    return pl.lit(True) if column is None else column.value.is_not_null()


def _count_skipped(frame: pl.DataFrame, columns: Sequence[FieldColumn]) -> Counter[str]:
    """Count the rows, by name, whose name of a type is not one of those that the mapping has."""
    column = _type_column(columns)
    if column is None or column.source is None:
        return Counter()
    other = frame.select(column.source.alias("name")).filter(frame.select(column.is_bad.alias("b"))["b"])
    name = ",".join(column.field.columns)
    return Counter({f"{name} = {value}": count for value, count in other["name"].value_counts().iter_rows()})


def _nest(frame: pl.DataFrame) -> pl.DataFrame:
    """Collect the columns `context.NAME` in a column `context`."""
    groups: dict[str, list[str]] = {}
    for name in frame.columns:
        if "." in name:
            groups.setdefault(name.partition(".")[0], []).append(name)
    for group, names in groups.items():
        inner = [pl.col(name).alias(name.partition(".")[2]) for name in names]
        frame = frame.with_columns(pl.struct(inner).alias(group)).drop(names)
    return frame


def _make_event_ids(frame: pl.DataFrame, row_ids: RowIds, number: int) -> pl.Series:
    """Ids of events: the id of the row, then the numbers of the selection and of the element."""
    ids = pl.Series("id", row_ids.ids, pl.String)[frame[_ROW]]
    suffix = pl.Series([""]) if not number else pl.Series([f"-{number}"])
    element = frame[_ELEMENT]
    elements = pl.select(
        pl.when(element > 0).then(pl.concat_str(pl.lit("."), element.cast(pl.String))).otherwise(pl.lit(""))
    ).to_series()
    return (ids + suffix + elements).alias("event_id")


def _other_columns(frame: pl.DataFrame, fields: Sequence[FieldMap], taken: Sequence[str]) -> pl.DataFrame:
    used = {name for field in fields for name in field.columns} | {_ROW, _ELEMENT, *taken}
    return frame.select(name for name in frame.columns if name not in used)


def merge_others(lines: Lines, originals: Sequence[bytes], selection: RowSelection) -> Lines:
    """Add the fields of the original JSON lines that no field of the selection uses."""
    fields = selection.field_maps([])
    used = {name.split(".")[0] for field in fields for name in (*field.columns, field.target)}
    merged = []
    for line, row in zip(lines.lines, lines.rows, strict=True):
        original = msgspec.json.decode(originals[row], type=dict[str, msgspec.Raw])
        others = {name: value for name, value in original.items() if name not in used}
        mapped = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        present = {name: value for name, value in mapped.items() if bytes(value) != b"null"}
        merged.append(msgspec.json.encode(present | others))
    return replace(lines, lines=merged)


def source_columns(selections: Sequence[RowSelection]) -> list[str]:
    """Columns that selections read, each once."""
    names = [name for selection in selections for field in selection.field_maps([]) for name in field.columns]
    conditions = [re.split(r"!=|=|~", selection.where)[0] for selection in selections if selection.where]
    return list(dict.fromkeys([*names, *conditions]))
