"""Item ids in example blocks: the learner stores them beside the rows of their keys."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stream.ids import KeyIndex
from stream.records.batches import EventType, ragged_starts
from stream.records.decoding import EventBatch
from stream.records.events import MERGES, Event, shown_items

_MAX_BYTES = 1 << 18  # of the ids in one block; ids beyond it come with a later event
_PREFIX = "item_ids_"


class ItemIds(NamedTuple):
    """Ids of n items; the UTF-8 bytes of item i are text[start[i] : start[i + 1]]."""

    key: np.ndarray  # (n,) uint64
    start: np.ndarray  # (n + 1,) int64
    text: np.ndarray  # (b,) uint8


NO_ITEM_IDS = ItemIds(np.zeros(0, np.uint64), np.zeros(1, np.int64), np.zeros(0, np.uint8))


def encode_ids(keys: np.ndarray, names: Sequence[str], max_bytes: int = _MAX_BYTES) -> ItemIds:
    """Encode ids with their keys, (n,) uint64, up to a number of bytes."""
    encoded = [name.encode() for name in names]
    start = ragged_starts(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    n = int(np.searchsorted(start, max_bytes, side="right")) - 1
    return ItemIds(keys[:n], start[: n + 1], np.frombuffer(b"".join(encoded[:n]), np.uint8))


def to_columns(ids: ItemIds) -> dict[str, np.ndarray]:
    """Columns of a block; none without items."""
    return {_PREFIX + name: array for name, array in ids._asdict().items()} if ids.key.size else {}


def from_columns(columns: Mapping[str, np.ndarray]) -> ItemIds:
    """Read the columns of a block; blocks of older versions have none."""
    names = [_PREFIX + name for name in ItemIds._fields]
    return ItemIds(*(columns[name] for name in names)) if names[0] in columns else NO_ITEM_IDS


def collect_ids(batch: EventBatch, events: Sequence[Event], is_held: np.ndarray, offsets: tuple[int, int]) -> ItemIds:
    """Collect the ids of the items that the events with offsets [from, to) name, each once.

    Two kinds of events are left out: those in quarantine, `is_held` (n,) bool, because nothing learns from them, and
    impressions with a `model_version`: their items came from a model that knows the ids already.
    """
    rows = np.arange(*np.searchsorted(batch.offset, offsets))
    is_impression = batch.type[rows] == EventType.impression
    rows = rows[~is_held[rows] & ~(is_impression & (batch.version[rows] != 0))]
    rows = rows[[events[row].type not in MERGES for row in rows.tolist()]] if len(rows) else rows
    start = batch.lists.start
    lengths = start[rows + 1] - start[rows]
    entries = np.repeat(start[rows] - ragged_starts(lengths)[:-1], lengths) + np.arange(lengths.sum())
    numbers, keys = KeyIndex(entries.size).lookup_or_insert(batch.lists.item[entries], 0)
    first = np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1))
    first_rows = np.repeat(rows, lengths)[first]
    positions = entries[first] - start[first_rows]
    named = zip(first_rows.tolist(), positions.tolist(), strict=True)
    return encode_ids(keys, [shown_items(events[row])[position] for row, position in named])
