"""Hashes of the content of events, to find other events with the same id."""

from collections.abc import Sequence

import numpy as np

from stream.ids import hash_ids, mix64
from stream.jit import kernel
from stream.records.batches import CandidateLists, ExampleBatch, ragged_starts
from stream.records.decoding import EventBatch
from stream.records.events import TYPE_NUMBERS, Event, shown_items


def batch_content_hashes(batch: EventBatch) -> np.ndarray:
    """Hashes of events, (n,) int32, at least 1: user, type, ts, value, items, impression."""
    return _hash_columns(batch.user, batch.type, batch.ts, batch.value, batch.impression, batch.lists)


def example_content_hashes(batch: ExampleBatch) -> np.ndarray:
    """Hashes of the events in rows of examples, equal to those of their `EventBatch`."""
    return _hash_columns(batch.queries.user, batch.type, batch.ts, batch.value, batch.impression, batch.lists)


def event_content_hashes(events: Sequence[Event]) -> np.ndarray:
    """Hashes of events that are not in columns."""
    items = [shown_items(event) for event in events]
    hashes = np.empty(len(events), np.int32)
    _hash_rows(
        hash_ids([event.user for event in events]),
        np.array([TYPE_NUMBERS[event.type] for event in events], np.uint8),
        np.array([event.ts for event in events], np.int64),
        np.array([np.nan if event.value is None else event.value for event in events], np.float32).view(np.uint32),
        hash_ids([event.impression_id or "" for event in events]),
        ragged_starts(np.array([len(names) for names in items], np.int64)),
        hash_ids([name for names in items for name in names]),
        hashes,
    )
    return hashes


def _hash_columns(
    user: np.ndarray, kind: np.ndarray, ts: np.ndarray, value: np.ndarray, impression: np.ndarray, lists: CandidateLists
) -> np.ndarray:
    hashes = np.empty(user.size, np.int32)
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    _hash_rows(user, kind, ts, bits, impression, lists.start, lists.item, hashes)
    return hashes


@kernel
def _hash_rows(
    user: np.ndarray, kind: np.ndarray, ts: np.ndarray, value_bits: np.ndarray, impression: np.ndarray,
    start: np.ndarray, item: np.ndarray, hashes: np.ndarray,
) -> None:  # fmt: skip
    """Hash each row; quarantine clears the impression of actions, so theirs does not count."""
    for i in range(hashes.size):
        digest = mix64(np.uint64(user[i]) ^ np.uint64(ts[i]))
        digest = mix64(digest + (np.uint64(kind[i]) << np.uint64(32) | np.uint64(value_bits[i])))
        if kind[i] == 0:
            digest = mix64(digest + np.uint64(impression[i]))
        for j in range(start[i], start[i + 1]):
            digest = mix64(digest + np.uint64(item[j]))
        hashes[i] = max(1, np.int64(digest >> np.uint64(33)))
