"""Records of all topics as JSON objects."""

from collections.abc import Iterator
from typing import Any

import msgspec

from stream.logs import Records
from stream.quarantine import BAN_KEY_PREFIX
from stream.records.column_blocks import decode_block
from stream.records.decoding import RELEASED_KEY_PREFIX
from stream.topics import EXAMPLES, MODEL_UPDATES

BINARY_TOPICS = (EXAMPLES, MODEL_UPDATES)
_MAX_TEXT = 1000  # characters of a value that is not JSON
_MARKS = {RELEASED_KEY_PREFIX: "released", BAN_KEY_PREFIX: "ban"}  # first bytes of the keys that Headrace writes
_PAYLOAD = "features"  # encoded columns of an impression

Row = dict[str, Any]


def decode_rows(topic: str, records: Records, is_full: bool = False) -> Iterator[Row]:
    """One row per record, or per event of an array; `is_full` keeps encoded features."""
    for offset, key, value, time in zip(records.offsets, records.keys, records.values, records.times, strict=True):
        position = {"topic": topic, "partition": records.partition, "offset": offset, "time": time}
        decoded = _decode_value(topic, value)
        entries = decoded if isinstance(decoded, list) else [decoded]
        for index, entry in enumerate(entries):
            place = {"index": index} if isinstance(decoded, list) else {}
            yield position | place | _decode_key(key) | {"value": entry if is_full else _summarize(entry)}


def _decode_key(key: bytes | None) -> Row:
    if key is None:
        return {"key": None}
    for prefix, mark in _MARKS.items():
        if key.startswith(prefix):
            return {"key": _to_text(key.removeprefix(prefix)), "mark": mark}
    return {"key": _to_text(key)}


def _decode_value(topic: str, value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return _describe_block(value) if topic in BINARY_TOPICS else msgspec.json.decode(value)
    except (ValueError, TypeError):
        return {"bytes": len(value), "text": _to_text(value[:_MAX_TEXT])}


def _describe_block(value: bytes) -> Row:
    header, columns = decode_block(value)
    shapes = {name: f"{array.dtype} {list(array.shape)}" for name, array in columns.items()}
    return {"bytes": len(value), "header": header, "columns": shapes}


def _summarize(entry: Any) -> Any:
    """Replace the encoded features of an impression by their size."""
    if not isinstance(entry, dict):
        return entry
    if isinstance(payload := entry.get(_PAYLOAD), str) and len(payload) > 32:
        entry = entry | {_PAYLOAD: f"<{len(payload):,} characters>"}
    return entry | {"event": _summarize(entry["event"])} if "event" in entry else entry


def _to_text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
