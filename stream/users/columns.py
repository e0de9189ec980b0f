"""Columns of user state, one row per user, and their conversion to records."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stream.records.batches import ragged_starts
from stream.records.fields import N_USER_KEYS, user_field_keys
from stream.users.owned_items import OwnedItems
from stream.users.profiles import (
    N_AWAITED,
    N_HISTORY,
    N_INTERACTED,
    N_MINUTE_COUNTS,
    N_SHOWN,
    N_SLATES,
    StoredProfile,
    encode_profile_fields,
)

ColumnArrays = dict[str, np.ndarray]
HISTORY_CAPACITY = N_HISTORY + 28  # actions before the oldest are dropped; the surplus makes dropping rare
_COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "key": ("uint64", ()),
    "offset": ("int64", ()),  # of the last event applied
    "users_offset": ("int64", ()),  # of the last record of the users topic applied
    "partition": ("int32", ()),  # of both offsets, -1 = unknown
    "forgotten_ts": ("int64", ()),  # time of the last request to forget the user, 0 = never
    "has_refused": ("bool", ()),  # the user does not consent
    "last_ts": ("int64", ()),
    "session_start": ("int64", ()),
    "session_depth": ("int32", ()),
    "counts": ("uint32", (9,)),
    "rates": ("float32", (9,)),
    "size": ("int32", ()),
    "item": ("uint64", (HISTORY_CAPACITY,)),
    "type": ("uint8", (HISTORY_CAPACITY,)),
    "ts": ("int64", (HISTORY_CAPACITY,)),
    "event": ("uint64", (HISTORY_CAPACITY,)),  # keys of event ids, as far as `has_event_keys`
    "has_event_keys": ("bool", ()),
    "interacted_size": ("int32", ()),
    "owned_size": ("int32", ()),  # of the first entries of `interacted`, see `stream.users.owned_items`
    "interacted": ("uint64", (N_INTERACTED,)),
    "shown_size": ("int32", ()),
    "shown": ("uint64", (2 * N_SHOWN,)),
    "minute_counts": ("float32", (N_MINUTE_COUNTS,)),
    "minute_counts_ts": ("int64", ()),
    "last_alarm_ts": ("int64", ()),
    "ban_end_ts": ("int64", ()),
    "banned_item": ("uint64", ()),
    "slates_size": ("int32", ()),
    "slates": ("uint64", (2 * N_SLATES,)),
    "fields": ("uint64", (N_USER_KEYS,)),  # keys of the attributes, see `stream.records.fields`
    "awaited_size": ("int32", ()),
    "awaited": ("uint64", (2 * N_AWAITED,)),  # see `stream.users.retractions`
}
_POSITION_COLUMNS = ("offset", "users_offset", "partition")
_NUMBERS = ("offset", "users_offset", "last_ts", "session_start", "session_depth")
_GUARD_STATE = ("minute_counts_ts", "last_alarm_ts", "ban_end_ts", "banned_item")
# A row of these is filled up to the size column in _SIZES; the rest of the row is undefined.
_RAGGED_COLUMNS = ("item", "type", "ts", "interacted", "shown", "slates", "awaited")
_UNDEFINED_COLUMNS = (*_RAGGED_COLUMNS, "event")
_SIZES = (
    ("size", "item"),
    ("interacted_size", "interacted"),
    ("shown_size", "shown"),
    ("slates_size", "slates"),
    ("awaited_size", "awaited"),
)


def allocate_columns(rows: int) -> ColumnArrays:
    columns = {name: np.zeros((rows, *shape), dtype) for name, (dtype, shape) in _COLUMNS.items()}
    clear(columns)
    return columns


def clear(columns: ColumnArrays) -> None:
    """Empty all rows in place, which is faster than a new allocation."""
    for name in columns.keys() - set(_UNDEFINED_COLUMNS):
        columns[name][:] = -1 if name in _POSITION_COLUMNS else 0


def grow(columns: ColumnArrays, rows: int) -> ColumnArrays:
    """Copy the rows into larger columns."""
    larger = allocate_columns(rows)
    for name, column in columns.items():
        larger[name][: len(column)] = column
    return larger


def forget(columns: ColumnArrays, row: int, ts: int) -> None:
    """Empty a row at time `ts`, ms, except its key and the offsets of the records applied to it."""
    for name in columns.keys() - {*_UNDEFINED_COLUMNS, *_POSITION_COLUMNS, "key"}:
        columns[name][row] = 0
    columns["forgotten_ts"][row] = ts


# Conversion goes column by column: numpy calls per row would take most of the time of this process.


def encode_rows(
    columns: ColumnArrays,
    rows: np.ndarray,
    user_ids: Sequence[str],
    texts: Sequence[bytes],
    attributes: Sequence[bytes],
    owned: OwnedItems,
) -> list[bytes]:
    """Encode rows as records of the user store; `texts` hold the original ids of each history."""
    size = columns["size"][rows].astype(np.int64)
    oldest, n_history = np.maximum(0, size - N_HISTORY), np.minimum(size, N_HISTORY)
    n_shown = np.minimum(columns["shown_size"][rows], N_SHOWN)
    n_slates = np.minimum(columns["slates_size"][rows], N_SLATES)
    fields = zip(
        user_ids,
        np.stack([columns[name][rows] for name in _NUMBERS], axis=1).tolist(),
        *(_slice_bytes(columns[name], rows, 0, np.full(rows.size, 9)) for name in ("counts", "rates")),
        *(_slice_bytes(columns[name], rows, oldest, n_history) for name in ("item", "type", "ts")),
        _encode_interacted(columns, rows, owned),
        texts,
        attributes,
        _slice_bytes(columns["shown"], rows, columns["shown_size"][rows] - n_shown, n_shown),
        _slice_bytes(columns["minute_counts"], rows, 0, np.full(rows.size, N_MINUTE_COUNTS)),
        list(zip(*(columns[name][rows].tolist() for name in _GUARD_STATE), strict=True)),
        _slice_bytes(columns["slates"], rows, columns["slates_size"][rows] - n_slates, n_slates),
        columns["partition"][rows].tolist(),
        columns["owned_size"][rows].tolist(),
        columns["forgotten_ts"][rows].tolist(),
        _slice_bytes(columns["awaited"], rows, 0, columns["awaited_size"][rows].astype(np.int64)),
        strict=True,
    )
    return [encode_profile_fields(*values) for values in fields]


def _encode_interacted(columns: ColumnArrays, rows: np.ndarray, owned: OwnedItems) -> list[bytes]:
    """Distinct items of each row as bytes."""
    sizes = columns["interacted_size"][rows]
    short = np.minimum(sizes, N_INTERACTED)  # of a long list, undefined bytes, which the long one replaces
    pieces = _slice_bytes(columns["interacted"], rows, 0, short)
    for i in np.flatnonzero(owned.long_lists.slot[rows] >= 0).tolist():
        pieces[i] = owned.encode(int(rows[i]), int(sizes[i])) or b""
    return pieces


def write_profiles(
    columns: ColumnArrays, rows: np.ndarray, records: Sequence[StoredProfile], owned: OwnedItems
) -> None:
    """Write records of the user store into rows."""
    for name, numbers in zip(_NUMBERS, zip(*(record.numbers for record in records), strict=True), strict=True):
        columns[name][rows] = numbers
    for name, numbers in zip(_GUARD_STATE, zip(*(record.guard_state for record in records), strict=True), strict=True):
        columns[name][rows] = numbers
    columns["partition"][rows] = [record.partition for record in records]
    columns["owned_size"][rows] = [record.owned_size for record in records]
    columns["forgotten_ts"][rows] = [record.forgotten_ts for record in records]
    columns["fields"][rows] = [user_field_keys(record.attributes) for record in records]
    pieces = {
        name: [getattr(record, name) for record in records]
        for name in ("counts", "rates", "minute_counts", *_RAGGED_COLUMNS)
    }
    pieces["interacted"] = owned.load(rows.tolist(), pieces["interacted"])
    lengths = {name: _assign_bytes(columns[name], rows, pieces[name]) for name in pieces}
    for size, name in _SIZES:
        columns[size][rows] = lengths[name]
    columns["interacted_size"][rows] = [len(record.interacted) // 8 for record in records]


def _slice_bytes(column: np.ndarray, rows: np.ndarray, first: np.ndarray | int, lengths: np.ndarray) -> list[bytes]:
    """Bytes of column[row, first : first + length] for each row."""
    start = ragged_starts(lengths)
    indices = np.arange(start[-1]) + np.repeat(rows * column.shape[1] + first - start[:-1], lengths)
    data = column.reshape(-1)[indices].tobytes()
    return [data[a:b] for a, b in pairwise((start * column.itemsize).tolist())]


def _assign_bytes(column: np.ndarray, rows: np.ndarray, pieces: Sequence[bytes]) -> np.ndarray:
    """Write each piece to the start of its row; returns the entries of each, (n,) int64."""
    lengths = np.array([len(piece) for piece in pieces]) // column.itemsize
    if lengths.max() > column.shape[1]:
        raise ValueError(
            f"a user record has {lengths.max()} entries, expected at most {column.shape[1]}: upgrade this process"
        )
    start = ragged_starts(lengths)
    indices = np.arange(start[-1]) + np.repeat(rows * np.int64(column.shape[1]) - start[:-1], lengths)
    column.reshape(-1)[indices] = np.frombuffer(b"".join(pieces), column.dtype)
    return lengths
