"""Decide from its first records how a file is read: as it is, by a preset, or by a mapping."""

import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec

from replay.files.kinds import Kind, detect_kind
from replay.files.mapping import RowSelection
from replay.files.options import NO_PRESET, ReadOptions
from replay.files.presets import find_preset, match_preset, nearest_preset
from replay.files.presets.preset import Preset
from replay.files.selections import source_columns
from replay.files.sources.compression import DamagedFile
from replay.files.sources.formats import Format, first_lines
from replay.files.sources.json_rows import explain_bad_json
from replay.files.sources.json_values import read_values
from replay.files.sources.tables import read_header, unique_names
from stream.records.events import Rejection

_N_SAMPLES = 100
_REQUIRED = ("user_id", "ts", "type")  # of an event; its id can be generated
_TYPED_FIELDS = ("ts", "created_ts", "available_from", "expires_ts")  # text in them is a time in ISO 8601


@dataclass(frozen=True, slots=True)
class Plan:
    """Way to read a file."""

    selections: tuple[RowSelection, ...] = ()  # empty: the lines are records already
    kind: Kind | None = None  # None = detect it line by line
    preset: Preset | None = None
    columns: tuple[str, ...] = ()  # names of the columns of a file without a header
    keep_others: bool = False  # keep the columns that no field uses
    salt: str = ""  # of generated event ids


def make_plan(name: str, format: Format, head: bytes, columns: Sequence[str], options: ReadOptions) -> Plan:
    """Make the plan; ValueError if the file fits nothing, or a header repeats a column in use.

    `columns` are those of a Parquet file; other files have them in the head.
    """
    plan = _choose_plan(name, format, head, columns, options)
    if format.name == "delimited" and not plan.columns:
        _check_header(name, read_header(head, format.separator), plan)
    return plan


def _check_header(name: str, header: Sequence[str], plan: Plan) -> None:
    used = source_columns(plan.selections)
    for column in [cell for cell, count in Counter(header).items() if count > 1 and cell in used]:
        numbers = " and ".join(str(number) for number, cell in enumerate(header, 1) if cell == column)
        raise ValueError(f"{name}: its header has {column!r} as columns {numbers}: rename all but one")


def _choose_plan(name: str, format: Format, head: bytes, columns: Sequence[str], options: ReadOptions) -> Plan:
    samples = _read_samples(format, head)
    names = list(columns) or _column_names(format, head, samples)
    line = head.split(b"\n", 1)[0].decode(errors="replace").rstrip("\r")
    native = _is_native(names, samples)
    preset = None
    if options.preset not in ("", NO_PRESET):
        preset = find_preset(options.preset)
    elif not options.preset and not native:
        preset = match_preset(names, line)
    if preset:
        names = list(preset.columns) or names
        return _plan_preset(preset, options, name, names)
    maps = options.fields | _times_as_text(samples, options)
    _check_sources(name, maps, names)
    if not native and not maps and options.kind is None:
        raise ValueError(_describe_unknown(name, names, head))
    if format.name in ("delimited", "parquet"):
        return _plan_table(name, names, maps, options)
    return Plan((RowSelection(maps),) if maps else (), options.kind, keep_others=True, salt=options.type)


def _plan_table(name: str, names: Sequence[str], maps: Mapping[str, str], options: ReadOptions) -> Plan:
    """Plan a table: its rows are of one kind, which follows from the fields."""
    fields = _map_same_names(names, maps)
    if options.type and "type" not in fields:
        fields["type"] = f'"{options.type}"'
    kind = options.kind or _kind_of_fields(fields)
    if kind is None:
        detail = f"{name}: the mapping gives {', '.join(fields)}; expected item_id, user_id, or both with ts and type"
        raise ValueError(f"{detail}; its columns are {_shorten(names)}")
    if kind == "events" and (absent := [field for field in _REQUIRED if field not in fields]):
        examples = {"ts": "--map ts=COLUMN:s", "user_id": "--map user_id=COLUMN", "type": "--type click"}
        advice = " ".join(examples[field] for field in absent)
        raise ValueError(f"{name}: events need {', '.join(absent)}; its columns are {_shorten(names)}: pass {advice}")
    return Plan((RowSelection(fields),), kind, keep_others=True, salt=options.type)


def _kind_of_fields(fields: Collection[str]) -> Kind | None:
    is_event = any(name in fields for name in ("event_id", "ts", "impression_id")) or {"user_id", "item_id"} <= set(
        fields
    )
    if is_event:
        return "events"
    return "items" if "item_id" in fields else "users" if "user_id" in fields else None


def _plan_preset(preset: Preset, options: ReadOptions, name: str, names: Sequence[str]) -> Plan:
    if missing := preset.missing(names):
        detail = f"{name}: preset {preset.name} needs the columns {', '.join(missing)}"
        raise ValueError(f"{detail}; the file has {_shorten(names)}")
    fields = options.fields | ({"type": f'"{options.type}"'} if options.type else {})
    _check_sources(name, options.fields, [*names, *_preset_columns(preset)])
    selections = tuple(replace(s, fields={**s.fields, **fields}) for s in preset.selections)
    return Plan(selections, options.kind or preset.kind, preset, preset.columns, salt=f"{preset.name}{options.type}")


def _preset_columns(preset: Preset) -> list[str]:
    return [name for selection in preset.selections for field in selection.field_maps([]) for name in field.columns]


def _read_samples(format: Format, head: bytes) -> list[dict[str, Any]]:
    """First records of a JSON file that are objects."""
    values: list[bytes] = []
    if format.name == "json_lines":
        values = first_lines(head)
    elif format.name == "json_values":
        values = _read_until_error(head, format.start)
    return [record for value in values[:_N_SAMPLES] if (record := _decode(value)) is not None]


def _read_until_error(head: bytes, start: int) -> list[bytes]:
    values: list[bytes] = []
    with suppress(DamagedFile):  # the head ends inside a value
        for value in islice(read_values(io.StringIO(head.decode(errors="replace")), start, ""), _N_SAMPLES):
            values.append(value)
    return values


def _decode(value: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _column_names(format: Format, head: bytes, samples: Sequence[Mapping[str, Any]]) -> list[str]:
    if format.name == "delimited":
        return unique_names(read_header(head, format.separator))
    return list(dict.fromkeys(name for sample in samples for name in _paths(sample)))


def _paths(record: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Paths of the fields of a record, two levels deep, those of the elements of lists too."""
    paths = []
    for name, value in record.items():
        paths.append(prefix + name)
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and prefix.count(".") < 2:
            paths += _paths(inner, f"{prefix}{name}.")
    return paths


def _is_native(names: Sequence[str], samples: Sequence[dict[str, Any]]) -> bool:
    """Return True if a record is an event, an item or a user by its fields."""
    rows = samples or [dict.fromkeys(names)]
    return any(not isinstance(detect_kind(row), Rejection) for row in rows) and not _looks_foreign(names)


def _looks_foreign(names: Sequence[str]) -> bool:
    """Return True for the fields of another layout that has an `event_id` too."""
    preset = match_preset(names, "")
    return preset is not None and not {"ts", "type"} <= set(names)


def _times_as_text(samples: Sequence[Mapping[str, Any]], options: ReadOptions) -> dict[str, str]:
    """Map fields of times to themselves if a sample has text in them."""
    return {
        name: name
        for name in _TYPED_FIELDS
        if name not in options.fields and any(isinstance(sample.get(name), str) for sample in samples)
    }


def _check_sources(name: str, maps: Mapping[str, str], columns: Collection[str]) -> None:
    """Check that a mapped column exists; columns joined by a separator need at least one."""
    for field in RowSelection(maps).field_maps(list(columns)):
        if field.columns and not set(field.columns) & set(columns):
            nearest = get_close_matches(field.columns[0], columns, 1, 0)
            advice = f"; the nearest is {nearest[0]!r}" if nearest else ""
            detail = f"--map {field.target}={','.join(field.columns)}: {name} has no such column{advice}"
            raise ValueError(f"{detail}; its columns are {_shorten(columns)}")


def _map_same_names(names: Sequence[str], maps: Mapping[str, str]) -> dict[str, str]:
    """Map the columns that have the name of a field, unless another column is mapped to it."""
    same = {name: f"{name}:|" if name in ("categories", "items", "sources", "propensities") else name for name in names}
    used = {column for field in RowSelection(maps).field_maps(names) for column in field.columns}
    return {name: source for name, source in same.items() if name not in used and name.isidentifier()} | dict(maps)


def _describe_unknown(name: str, columns: Sequence[str], head: bytes) -> str:
    if not columns:
        first = next(iter(first_lines(head)), b"")
        detail = _explain(first) or "expected JSON lines, a JSON array, CSV, TSV or Parquet"
        shown = first[:60].decode(errors="replace")
        return f"{name}: no events, items or users in its first lines; it begins with {shown!r}: {detail}"
    preset = nearest_preset(columns)
    text = f"{name}: no events, items or users in its first lines; its columns are {_shorten(columns)}"
    if 2 * len(preset.missing(columns)) <= len(preset.recognized_by):
        text += f"; the nearest preset is {preset.name}, which also needs {', '.join(preset.missing(columns))}"
    return f"{text}. Map the columns, as in --map user_id=COLUMN --map item_id=COLUMN --map ts=COLUMN:s --type click"


def _explain(line: bytes) -> str:
    """Reason why a line is not a JSON object; empty for text that does not begin as one."""
    try:
        msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        rejection = explain_bad_json(line, error)
        return rejection.detail if line[:1] in b"{[" or rejection.reason == "not_utf8" else ""
    return ""


def _shorten(columns: Collection[str]) -> str:
    names = [name if len(name) < 40 else f"{name[:40]}…" for name in list(columns)[:12]]
    return ", ".join(names) + (" …" if len(columns) > 12 else "")
