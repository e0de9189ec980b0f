"""What a person did as columns, one row per person, and as the record that the store keeps of them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stream.records.batches import offsets_of
from stream.users.profiles import HISTORY, MET, PACES, SHOWN, SLATES, Stored, encode_stored

Columns = dict[str, np.ndarray]
ROOM = HISTORY + 28  # rows of history kept before the oldest are dropped, so that dropping is rare
_COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "key": ("uint64", ()),
    "offset": ("int64", ()),  # of the last event applied
    "users_offset": ("int64", ()),  # of the last record of the users topic applied
    "last_ts": ("int64", ()),
    "session_start": ("int64", ()),
    "session_depth": ("int32", ()),
    "counts": ("uint32", (9,)),
    "rates": ("float32", (9,)),
    "size": ("int32", ()),
    "item": ("uint64", (ROOM,)),
    "type": ("uint8", (ROOM,)),
    "ts": ("int64", (ROOM,)),
    "met_size": ("int32", ()),
    "met": ("uint64", (MET,)),
    "shown_size": ("int32", ()),
    "shown": ("uint64", (2 * SHOWN,)),
    "pace": ("float32", (PACES,)),
    "paced": ("int64", ()),
    "alarmed": ("int64", ()),
    "barred": ("int64", ()),
    "barred_item": ("uint64", ()),
    "slates_size": ("int32", ()),
    "slates": ("uint64", (2 * SLATES,)),
}
_NUMBERS = ("offset", "users_offset", "last_ts", "session_start", "session_depth")
_JUDGED = ("paced", "alarmed", "barred", "barred_item")
# A row of these is filled up to `size`, `met_size`, `shown_size` or `slates_size`; behind that it says nothing.
_RUNS = ("item", "type", "ts", "met", "shown", "slates")
_SIZES = (("size", "item"), ("met_size", "met"), ("shown_size", "shown"), ("slates_size", "slates"))


def blank(rows: int) -> Columns:
    columns = {name: np.zeros((rows, *shape), dtype) for name, (dtype, shape) in _COLUMNS.items()}
    clear(columns)
    return columns


def clear(columns: Columns) -> None:
    """Empty all rows in place: to ask for the memory once more would take longer than what is done with it."""
    for name in columns.keys() - set(_RUNS):
        columns[name][:] = -1 if name in ("offset", "users_offset") else 0


def grown(columns: Columns, rows: int) -> Columns:
    """The same rows, with room for more behind them."""
    larger = blank(rows)
    for name, column in columns.items():
        larger[name][: len(column)] = column
    return larger


def forget(columns: Columns, row: int) -> None:
    """Empty a row, but for who it is and how far events were applied to it."""
    for name in columns.keys() - {*_RUNS, "key", "offset", "users_offset"}:
        columns[name][row] = 0


# Rows to records and back, column by column: numpy by the row would take most of this process's time.


def records_of(
    columns: Columns, rows: np.ndarray, names: Sequence[str], texts: Sequence[bytes], attributes: Sequence[bytes]
) -> list[bytes]:
    """The records of some rows, with what people read of each."""
    size = columns["size"][rows].astype(np.int64)
    oldest, kept = np.maximum(0, size - HISTORY), np.minimum(size, HISTORY)
    shown = np.minimum(columns["shown_size"][rows], SHOWN)
    slates = np.minimum(columns["slates_size"][rows], SLATES)
    fields = zip(
        names,
        np.stack([columns[name][rows] for name in _NUMBERS], axis=1).tolist(),
        *(_cut(columns[name], rows, 0, np.full(rows.size, 9)) for name in ("counts", "rates")),
        *(_cut(columns[name], rows, oldest, kept) for name in ("item", "type", "ts")),
        _cut(columns["met"], rows, 0, columns["met_size"][rows]),
        texts,
        attributes,
        _cut(columns["shown"], rows, columns["shown_size"][rows] - shown, shown),
        _cut(columns["pace"], rows, 0, np.full(rows.size, PACES)),
        list(zip(*(columns[name][rows].tolist() for name in _JUDGED), strict=True)),
        _cut(columns["slates"], rows, columns["slates_size"][rows] - slates, slates),
        strict=True,
    )
    return [encode_stored(*one) for one in fields]


def place(columns: Columns, rows: np.ndarray, records: Sequence[Stored]) -> None:
    """Write what the store knew of people into their rows."""
    for name, numbers in zip(_NUMBERS, zip(*(record.numbers for record in records), strict=True), strict=True):
        columns[name][rows] = numbers
    for name, numbers in zip(_JUDGED, zip(*(record.judged for record in records), strict=True), strict=True):
        columns[name][rows] = numbers
    lengths = {
        name: _paste(columns[name], rows, [getattr(record, name) for record in records])
        for name in ("counts", "rates", "pace", *_RUNS)
    }
    for size, name in _SIZES:
        columns[size][rows] = lengths[name]


def _cut(column: np.ndarray, rows: np.ndarray, first: np.ndarray | int, lengths: np.ndarray) -> list[bytes]:
    """The bytes of column[row, first : first + length], for each row."""
    start = offsets_of(lengths)
    places = np.arange(start[-1]) + np.repeat(rows * column.shape[1] + first - start[:-1], lengths)
    data = column.reshape(-1)[places].tobytes()
    return [data[a:b] for a, b in pairwise((start * column.itemsize).tolist())]


def _paste(column: np.ndarray, rows: np.ndarray, pieces: Sequence[bytes]) -> np.ndarray:
    """Write each piece into its row from the beginning; returns how many entries each has, (n,) int64."""
    lengths = np.array([len(piece) for piece in pieces]) // column.itemsize
    if lengths.max() > column.shape[1]:
        raise ValueError(f"a user record has {lengths.max()} entries where this code keeps {column.shape[1]}")
    start = offsets_of(lengths)
    places = np.arange(start[-1]) + np.repeat(rows * np.int64(column.shape[1]) - start[:-1], lengths)
    column.reshape(-1)[places] = np.frombuffer(b"".join(pieces), column.dtype)
    return lengths
