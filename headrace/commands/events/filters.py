"""Filters of rows: by user, item, type and reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.commands.events.rows import Row
from stream.topics import EVENTS, ITEMS, USERS

_NESTED = ("event", "evidence", "raw")  # fields that hold the event, also as text


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Conditions that a row has to fulfil; "" is no condition."""

    user: str = ""
    item: str = ""
    type: str = ""  # of the event or command
    reason: str = ""  # of a dead letter
    detector: str = ""  # of an alarm, or of an action in quarantine

    def __bool__(self) -> bool:
        return self != RowFilter()

    def matches(self, row: Row) -> bool:
        objects = list(_find_objects(row["value"]))
        is_user = row["topic"] in (EVENTS, USERS) and row["key"] == self.user
        return (
            (not self.user or is_user or any(entry.get("user_id") == self.user for entry in objects))
            and (not self.item or _has_item(row, objects, self.item))
            and all(
                not expected or any(entry.get(name) == expected for entry in objects)
                for name, expected in (("type", self.type), ("reason", self.reason), ("detector", self.detector))
            )
        )


def _has_item(row: Row, objects: list[dict[str, Any]], item: str) -> bool:
    if row["topic"] == ITEMS and row["key"] == item:
        return True
    return any(
        entry.get("item_id") == item or (isinstance(items := entry.get("items"), list) and item in items)
        for entry in objects
    )


def _find_objects(value: Any) -> Iterator[dict[str, Any]]:
    """The object itself, and the events inside it."""
    if isinstance(value, list):
        for entry in value:
            yield from _find_objects(entry)
    if not isinstance(value, dict):
        return
    yield value
    for name in _NESTED:
        nested = value.get(name)
        if isinstance(nested, str):
            nested = _parse(nested)
        yield from _find_objects(nested)


def _parse(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, UnicodeError):
        return None
