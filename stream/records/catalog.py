"""Catalog: the items topic as a table in each process."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from stream import metrics
from stream.ids import hash_id
from stream.logs import EventLog
from stream.records.events import validate_id
from stream.records.timestamps import MAX_TS
from stream.topics import ITEMS

_READ_SIZE = 4096
_MAX_PRICE = 1e12
_UNCHECKED_BEFORE = {"stock", "available_from", "expires_ts"}
_logger = logging.getLogger(__name__)


class Item(msgspec.Struct, gc=False):
    """Item on the wire; other fields pass through the log unchanged."""

    item_id: Annotated[str, Meta(description="Id of the item, 1 to 256 bytes.")]
    title: Annotated[str | None, Meta(description="Title.")] = None
    categories: Annotated[list[str], Meta(description="Categories, the main one first; 16 of them count.")] = []
    created_ts: Annotated[int | None, Meta(description="Time of its creation, ms since 1970.")] = None
    price: Annotated[float | None, Meta(description="Price, from 0.")] = None
    creator: Annotated[str | None, Meta(description="Author, seller or brand.")] = None
    available: Annotated[bool, Meta(description="False: it is not recommended.")] = True
    stock: Annotated[int | None, Meta(description="Pieces in stock; 0: it is not recommended.")] = None
    available_from: Annotated[int | None, Meta(description="Not recommended before this time, ms since 1970.")] = None
    expires_ts: Annotated[int | None, Meta(description="Not recommended from this time on, ms since 1970.")] = None


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """One record of the items topic; `item` is None for a deletion."""

    key: int
    item: Item | None
    raw: bytes


_decoder = msgspec.json.Decoder(Item)


def parse_item(value: bytes | msgspec.Raw) -> Item:
    """Parse an item; ValueError names the invalid field."""
    try:
        item = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a valid item: {error}") from None
    if id_error := validate_id("item_id", item.item_id):
        raise ValueError(id_error[1])
    if item.price is not None and not 0 <= item.price < _MAX_PRICE:
        raise ValueError(f"price of item {item.item_id} is {item.price!r}; expected 0 to {_MAX_PRICE:g}")
    if item.stock is not None and item.stock < 0:
        raise ValueError(f"stock of item {item.item_id} is {item.stock}; expected a number from 0")
    for name in ("created_ts", "available_from", "expires_ts"):
        if (ts := getattr(item, name)) is not None and abs(ts) > MAX_TS:
            raise ValueError(f"{name} of item {item.item_id} is {ts}; expected milliseconds since 1970")
    return item


def is_deletion(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Return True if the fields of an item or a user have `"deleted": true`.

    ValueError if the value is not a boolean: a record that was meant to delete must not replace.
    """
    deleted = bytes(fields.get("deleted", b"false"))
    if deleted not in (b"true", b"false", b"null"):
        raise ValueError(f"deleted is {deleted[:64].decode(errors='replace')}; expected true or false")
    return deleted == b"true"


def _parse_stored(value: bytes) -> Item:
    """Parse an item of the log, without invalid fields that earlier versions did not check."""
    try:
        return parse_item(value)
    except ValueError:
        fields = _decode_fields(value)
        if fields.keys().isdisjoint(_UNCHECKED_BEFORE):
            raise
        return parse_item(msgspec.json.encode({k: v for k, v in fields.items() if k not in _UNCHECKED_BEFORE}))


def _decode_fields(value: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def read_items(log: EventLog, offset: int, end: int | None = None) -> Iterator[tuple[int, list[CatalogChange]]]:
    """Read changes of the catalog from an offset on, in batches of (next offset, changes).

    Invalid records, which another producer can write, are skipped, counted and logged.
    """
    end = log.end_offset(ITEMS, 0) if end is None else end
    while offset < end:
        records = log.read(ITEMS, 0, offset, min(_READ_SIZE, end - offset))
        if not len(records) or records.offsets[0] >= end:
            return
        changes, invalid = [], []
        for record_offset, key, value in zip(records.offsets, records.keys, records.values, strict=True):
            if record_offset >= end:
                continue
            try:
                if key is None:
                    raise ValueError("the record has no key; expected the item id")
                item = _parse_stored(value) if value else None
                changes.append(CatalogChange(hash_id(key.decode()), item, value or b""))
            except ValueError as error:
                invalid.append((record_offset, error))
        if invalid:
            metrics.items_invalid.inc(len(invalid))
            message = "skipped %d invalid records of topic items up to offset %d; the first one, at %d: %s"
            _logger.warning(message, len(invalid), records.offsets[-1], *invalid[0])
        offset = records.offsets[-1] + 1
        yield offset, changes


class Catalog:
    """Every item by key, with its original JSON; `poll` follows the topic."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._items: dict[int, Item] = {}
        self._raw: dict[int, bytes] = {}
        self._deleted: set[int] = set()
        self.next_offset = 0

    def __len__(self) -> int:
        return len(self._items)

    def poll(self) -> list[CatalogChange]:
        """Apply new records of the topic; returns the changes."""
        return self.apply(list(read_items(self._log, self.next_offset)))

    def apply(self, batches: Sequence[tuple[int, list[CatalogChange]]]) -> list[CatalogChange]:
        """Apply batches of `read_items`; batches that were applied before are skipped."""
        applied_changes: list[CatalogChange] = []
        for next_offset, changes in batches:
            if next_offset <= self.next_offset:
                continue
            self.next_offset = next_offset
            for change in changes:
                if change.item is None:
                    self._items.pop(change.key, None)
                    self._raw.pop(change.key, None)
                    self._deleted.add(change.key)
                else:
                    self._deleted.discard(change.key)
                    self._items[change.key], self._raw[change.key] = change.item, change.raw
            applied_changes += changes
        return applied_changes

    def get(self, key: int) -> Item | None:
        return self._items.get(key)

    def is_deleted(self, key: int) -> bool:
        """Return True if the catalog contained the item and then deleted it."""
        return key in self._deleted

    def json(self, key: int) -> dict[str, Any] | None:
        """Item with all of its original fields, or None."""
        raw = self._raw.get(key)
        return None if raw is None else msgspec.json.decode(raw)
