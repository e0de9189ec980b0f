"""Parse JSON lines as events, items or users: each line by its own fields."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from replay.files.sources.json_rows import explain_bad_json
from replay.files.sources.tables import Refusal
from stream.records.catalog import is_deletion, parse_item
from stream.records.events import Event, Rejection, decode_events, parse
from stream.users.profiles import validate_user_record

Kind = Literal["events", "items", "users"]
MakeIds = Callable[[Sequence[str]], list[str]]
_EVENT_FIELDS = ("event_id", "ts", "impression_id")
# Fields of events in other layouts: a record that has one is no item and no user, unless the kind is given.
_FOREIGN_NAMES = """timestamp time_ms event_name event_type eventType event action rating overall asin parent_asin
    product product_id productId movieId movie_id video_id article_id itemId itemid visitorid visitorId session_id
    sessionId order_id eval_set reviewText"""
_FOREIGN_FIELDS = frozenset(_FOREIGN_NAMES.split())
_ITEM_NAMES = "rating overall asin parent_asin product product_id productId"  # an item can have these
_ITEM_FOREIGN_FIELDS = _FOREIGN_FIELDS - frozenset(_ITEM_NAMES.split())
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)
class ParsedLines:
    """Records of a batch by kind; `None` as a line is a deletion."""

    events: list[Event] = field(default_factory=list)
    event_lines: list[bytes] = field(default_factory=list)
    event_places: list[int] = field(default_factory=list)
    items: list[tuple[str, bytes | None]] = field(default_factory=list)
    users: list[tuple[str, bytes | None]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def extend(self, other: "ParsedLines") -> None:
        for name in ("events", "event_lines", "event_places", "items", "users", "refused"):
            getattr(self, name).extend(getattr(other, name))


def parse_lines(
    lines: Sequence[bytes], places: Sequence[int], kind: Kind | None, default_type: str, make_ids: MakeIds
) -> ParsedLines:
    """Parse lines; `kind` is given or detected line by line.

    `default_type` is the type of events without one. An event without an id gets one.
    """
    if kind in (None, "events") and (events := _decode_events(lines)) is not None:
        return ParsedLines(events, list(lines), list(places))
    parsed = ParsedLines()
    records = _decode_records(lines, places, parsed)
    kinds = [kind or detect_kind(fields) for _, _, fields in records]
    without_id = [i for i, k in enumerate(kinds) if k == "events" and _is_missing(records[i][2], "event_id")]
    ids = dict(zip(without_id, make_ids([records[i][0].decode() for i in without_id]), strict=True))
    for i, ((line, place, fields), record_kind) in enumerate(zip(records, kinds, strict=True)):
        if record_kind == "events":
            _add_event(parsed, complete_event(line, fields, default_type, ids.get(i)), place, fields)
        else:
            _add_other(parsed, line, place, record_kind, fields)
    return parsed


def _decode_records(
    lines: Sequence[bytes], places: Sequence[int], parsed: ParsedLines
) -> list[tuple[bytes, int, dict[str, msgspec.Raw]]]:
    """Decode the fields of each line; lines that are no JSON objects are refused."""
    records = []
    for line, place in zip(lines, places, strict=True):
        try:
            line.decode()
            records.append((line, place, _decode_fields(line)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            parsed.refused.append(Refusal(place, explain_bad_json(line, error), line))
    return records


def _decode_events(lines: Sequence[bytes]) -> list[Event] | None:
    """Decode the usual batch, events only and no recorded dislikes; None for any other."""
    try:
        events = decode_events(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if any(event.value == -1 for event in events) else events


def _add_event(parsed: ParsedLines, line: bytes, place: int, fields: dict[str, msgspec.Raw]) -> None:
    event = parse(line)
    if isinstance(event, Rejection):
        parsed.refused.append(Refusal(place, _advise(event, fields), line))
    else:
        parsed.events.append(event)
        parsed.event_lines.append(line)
        parsed.event_places.append(place)


def _add_other(
    parsed: ParsedLines, line: bytes, place: int, kind: Kind | Rejection, fields: dict[str, msgspec.Raw]
) -> None:
    if isinstance(kind, Rejection):
        parsed.refused.append(Refusal(place, kind, line))
        return
    result = _parse_item(line, fields) if kind == "items" else _parse_user(line, fields)
    if isinstance(result, Rejection):
        parsed.refused.append(Refusal(place, result, line))
    else:
        (parsed.items if kind == "items" else parsed.users).append(result)


def detect_kind(fields: dict[str, Any]) -> Kind | Rejection:
    """Detect the kind of a record by the names of its fields."""
    is_event = any(name in fields for name in _EVENT_FIELDS)
    if is_event or ("user_id" in fields and ("item_id" in fields or "type" in fields)):
        return "events"
    for kind, id_field, foreign in (("items", "item_id", _ITEM_FOREIGN_FIELDS), ("users", "user_id", _FOREIGN_FIELDS)):
        if id_field in fields:
            found = sorted(foreign & fields.keys())
            if not found:
                return kind  # type: ignore[return-value]
            detail = f"{id_field} stands beside {', '.join(found)}: an event needs type, ts, user_id and item_id"
            return Rejection("unknown_kind", f"{detail}; map its fields with --map, or force --kind {kind}")
    names = ", ".join(list(fields)[:8]) or "none"
    return Rejection("unknown_kind", f"the fields are {names}; expected item_id, user_id, or event_id and ts")


def complete_event(line: bytes, fields: dict[str, msgspec.Raw], default_type: str, event_id: str | None) -> bytes:
    """Add the type and the id that an event lacks; a recorded like of −1 becomes a dislike."""
    added: dict[str, Any] = {}
    if default_type and _is_missing(fields, "type"):
        added["type"] = default_type
    if event_id is not None:
        added["event_id"] = event_id
    if bytes(fields.get("value", b"")) in (b"-1", b"-1.0") and bytes(fields.get("type", b"")) == b'"like"':
        added |= {"type": "dislike", "value": None}
    return msgspec.json.encode(fields | added) if added else line


def _is_missing(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name not in fields or bytes(fields[name]) == b"null"


def _advise(rejection: Rejection, fields: dict[str, msgspec.Raw]) -> Rejection:
    """Add the option that accepts such records."""
    if rejection.reason == "missing_field" and "type" not in fields:
        return Rejection("missing_field", f"{rejection.detail}; --type gives a type to events without one")
    if rejection.reason == "wrong_type" and (match := re.search(r"`\$\.(\w+)`", rejection.detail)):
        name = match[1]
        if bytes(fields.get(name, b"")) == b"null":
            return Rejection("missing_field", f"{name} has no value")
        return Rejection("wrong_type", f"{rejection.detail}; --map {name}={name} converts it")
    return rejection


def _parse_item(line: bytes, fields: dict[str, msgspec.Raw]) -> tuple[str, bytes | None] | Rejection:
    try:
        return parse_item(line).item_id, None if is_deletion(fields) else line
    except ValueError as error:
        return Rejection("not_an_item", str(error))


def _parse_user(line: bytes, fields: dict[str, msgspec.Raw]) -> tuple[str, bytes | None] | Rejection:
    user_id = msgspec.json.decode(fields.get("user_id", msgspec.Raw(b"null")))
    if not isinstance(user_id, str):
        return Rejection("not_a_user", f"user_id is {user_id!r}; expected text")
    if error := validate_user_record(user_id.encode(errors="replace"), line):
        return Rejection("not_a_user", error)
    try:
        return user_id, None if is_deletion(fields) else line
    except ValueError as error:
        return Rejection("not_a_user", str(error))
