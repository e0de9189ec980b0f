"""User state: what a person did, kept in columns, one row per person that this worker has lately met."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stream.batches import Questions, offsets_of
from stream.compiled import kernel
from stream.ids import KeyIndex
from stream.intake import EventBatch
from stream.profiles import (
    DAY_MS,
    HISTORY,
    MET,
    PACES,
    SESSION_GAP,
    SHOWN,
    SLATES,
    SNAPSHOT,
    Stored,
    decode_stored,
    encode_stored,
)
from stream.screens import BARRED, MINUTE_MS, OPEN, Screen, judge
from stream.stores import Mark, UserStore

_QUIET = 3_600_000  # ms of event time between two alarms about one person
_ROOM = HISTORY + 28  # rows of history kept before the oldest are dropped, so that dropping is rare
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
    "item": ("uint64", (_ROOM,)),
    "type": ("uint8", (_ROOM,)),
    "ts": ("int64", (_ROOM,)),
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


@dataclass(frozen=True, slots=True)
class Applied:
    """What events came to: how each person stood just before each, and what the screen says of it."""

    questions: Questions
    verdict: np.ndarray  # (n,) uint8, place in `screens.DETECTORS`, 0 = nothing against it
    alarming: np.ndarray  # (n,) bool, the first one against this person in a while


class UserTable:
    """Reads a user from the store on first touch, applies events in order, and writes back those that changed.

    Each user carries the offset of the last event applied, so that events applied before change nothing. Nothing is
    written but by `flush`: what stands in the store must have been published before. So rows grow past their number
    where one micro-batch needs it.
    """

    def __init__(self, store: UserStore, rows: int, screen: Screen = OPEN) -> None:
        self._store = store
        self._limits = screen.limits
        self._capacity = rows
        self._columns = _blank(rows)
        self.forget_cache()

    def forget_cache(self) -> None:
        """Drop all rows, so that each user is read from the store again; flush first."""
        if self._columns["key"].size > self._capacity:
            self._columns = _blank(self._capacity)
        _clear(self._columns)
        self._texts: list[bytes] = [b""] * self._capacity  # what people read: ids of items and events, by row
        self._names: list[str] = [""] * self._capacity
        self._attributes: list[bytes] = [b""] * self._capacity
        self._index = KeyIndex(self._capacity)
        self._used = 0
        self._changed = np.zeros(self._capacity, np.bool_)

    def apply(self, batch: EventBatch, texts: Sequence[bytes], names: Sequence[str]) -> Applied:
        """Apply events in order and say how each person stood just before each event.

        What the screen holds back changes nothing of a person but what the screen judges by. `texts` are the events as
        `profiles.text_of` writes them, `names` the user ids, both one per event.
        """
        rows = self._touch(batch.user)
        columns = self._columns
        n = len(batch)
        lengths, seen = np.zeros(n, np.int64), np.zeros(n, np.int64)
        bound = int(np.minimum(columns["size"][rows] + np.arange(n), SNAPSHOT).sum())
        item, kind, ts = np.empty(bound, np.uint64), np.empty(bound, np.uint8), np.empty(bound, np.int64)
        shown = np.empty(n * SHOWN, np.uint64)
        session_start, session_depth = np.empty(n, np.int64), np.empty(n, np.int32)
        rates = np.empty((n, 9), np.float32)
        applied, alarming = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        verdict = np.zeros(n, np.uint8)
        used, used_shown = _apply(
            rows, batch.offset, batch.type, batch.ts, batch.item,
            columns["offset"], columns["last_ts"], columns["session_start"], columns["session_depth"],
            columns["counts"], columns["rates"], columns["size"], columns["item"], columns["type"], columns["ts"],
            columns["met_size"], columns["met"], columns["shown_size"], columns["shown"],
            columns["pace"], columns["paced"], columns["alarmed"], columns["barred"], columns["barred_item"],
            columns["slates_size"], columns["slates"],
            batch.lists.start, batch.lists.item, batch.impression, batch.released, self._limits, verdict, alarming,
            lengths, item, kind, ts, seen, shown, session_start, session_depth, rates, applied,
        )  # fmt: skip
        self._changed[rows[applied]] = True
        self._write_down(rows, np.flatnonzero(applied), verdict, texts, names)
        questions = Questions(
            ts=batch.ts,
            user=batch.user,
            surface=batch.surface,
            context=batch.context,
            session_start=session_start,
            session_depth=session_depth,
            rates=rates,
            history_start=offsets_of(lengths),
            history_item=item[:used],
            history_type=kind[:used],
            history_ts=ts[:used],
            shown_start=offsets_of(seen),
            shown_item=shown[:used_shown],
        )
        return Applied(questions, verdict, alarming)

    def _write_down(
        self, rows: np.ndarray, chosen: np.ndarray, verdict: np.ndarray, texts: Sequence[bytes], names: Sequence[str]
    ) -> None:
        """What people read, of the events chosen. Added once for each person: a text is copied whenever it grows."""
        lines: defaultdict[int, list[bytes]] = defaultdict(list)
        for i, row, held in zip(chosen.tolist(), rows[chosen].tolist(), verdict[chosen].tolist(), strict=True):
            self._names[row] = names[i]
            if not held:
                lines[row].append(texts[i])
        for row, more in lines.items():
            self._texts[row] = b"".join((self._texts[row], *more))

    def describe(
        self, keys: np.ndarray, names: Sequence[str], offsets: Sequence[int], values: Sequence[bytes | None]
    ) -> None:
        """Apply records of the users topic: attributes as JSON, or None to forget the person."""
        rows = self._touch(keys)
        for row, name, offset, value in zip(rows.tolist(), names, offsets, values, strict=True):
            if offset <= self._columns["users_offset"][row]:
                continue
            self._columns["users_offset"][row] = offset
            self._names[row] = name
            self._attributes[row] = value or b""
            if value is None:
                self._forget(row)
            self._changed[row] = True

    def bar(self, keys: np.ndarray, offsets: Sequence[int], items: Sequence[int], until: Sequence[int]) -> None:
        """Apply records of the users topic that hold back what a person does with one item, up to an event time."""
        for row, offset, item, ts in zip(self._touch(keys).tolist(), offsets, items, until, strict=True):
            if offset > self._columns["users_offset"][row]:
                self._columns["users_offset"][row] = offset
                self._columns["barred_item"][row], self._columns["barred"][row] = item, ts
                self._changed[row] = True

    def flush(self, marks: Sequence[Mark] = ()) -> int:
        """Write the users that changed to the store, with the marks that go with them; returns how many."""
        rows = np.flatnonzero(self._changed)
        if rows.size or marks:
            self._store.put_many(self._columns["key"][rows], self._records(rows) if rows.size else [], marks)
            self._changed[rows] = False
        if self._used > 0.75 * self._capacity:
            self.forget_cache()
        return int(rows.size)

    def _touch(self, keys: np.ndarray) -> np.ndarray:
        missing = np.unique(keys[self._index.find(keys) < 0])
        if missing.size:
            self._reserve(self._used + missing.size)
            self._load(missing)
        return self._index.find(keys)

    def _reserve(self, rows: int) -> None:
        held = self._changed.size
        if rows <= held:
            return
        grown = _blank(max(rows, 2 * held))
        for name, column in self._columns.items():
            grown[name][:held] = column
        more = grown["key"].size - held
        self._columns = grown
        self._texts += [b""] * more
        self._names += [""] * more
        self._attributes += [b""] * more
        self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])

    def _load(self, keys: np.ndarray) -> None:
        rows, _ = self._index.number(keys, self._used)
        self._used += keys.size
        self._columns["key"][rows] = keys
        values = self._store.get_many(keys)
        held = [i for i, value in enumerate(values) if value is not None]
        if held:
            self._place(rows[held], [decode_stored(values[i] or b"") for i in held])

    # Rows to records and back, column by column: numpy by the row would take most of this process's time.

    def _records(self, rows: np.ndarray) -> list[bytes]:
        """The records of some rows."""
        columns, chosen = self._columns, rows.tolist()
        size = columns["size"][rows].astype(np.int64)
        oldest, kept = np.maximum(0, size - HISTORY), np.minimum(size, HISTORY)
        shown = np.minimum(columns["shown_size"][rows], SHOWN)
        slates = np.minimum(columns["slates_size"][rows], SLATES)
        fields = zip(
            [self._names[row] for row in chosen],
            np.stack([columns[name][rows] for name in _NUMBERS], axis=1).tolist(),
            *(_cut(columns[name], rows, 0, np.full(rows.size, 9)) for name in ("counts", "rates")),
            *(_cut(columns[name], rows, oldest, kept) for name in ("item", "type", "ts")),
            _cut(columns["met"], rows, 0, columns["met_size"][rows]),
            [self._text(row) for row in chosen],
            [self._attributes[row] for row in chosen],
            _cut(columns["shown"], rows, columns["shown_size"][rows] - shown, shown),
            _cut(columns["pace"], rows, 0, np.full(rows.size, PACES)),
            list(zip(*(columns[name][rows].tolist() for name in _JUDGED), strict=True)),
            _cut(columns["slates"], rows, columns["slates_size"][rows] - slates, slates),
            strict=True,
        )
        return [encode_stored(*one) for one in fields]

    def _text(self, row: int) -> bytes:
        """The lines of the history that is kept."""
        text = self._texts[row]
        if text.count(b"\n") > HISTORY:
            text = self._texts[row] = b"\n".join(text.split(b"\n")[-HISTORY - 1 :])
        return text

    def _place(self, rows: np.ndarray, records: Sequence[Stored]) -> None:
        columns = self._columns
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
        for row, record in zip(rows.tolist(), records, strict=True):
            self._names[row], self._texts[row], self._attributes[row] = record.name, record.text, record.attributes

    def _forget(self, row: int) -> None:
        for name in self._columns.keys() - {*_RUNS, "key", "offset", "users_offset"}:
            self._columns[name][row] = 0
        self._names[row] = ""
        self._texts[row] = self._attributes[row] = b""


def _blank(rows: int) -> dict[str, np.ndarray]:
    columns = {name: np.zeros((rows, *shape), dtype) for name, (dtype, shape) in _COLUMNS.items()}
    _clear(columns)
    return columns


def _clear(columns: dict[str, np.ndarray]) -> None:
    """Empty all rows in place: to ask for the memory once more would take longer than what is done with it."""
    for name in columns.keys() - set(_RUNS):
        columns[name][:] = -1 if name in ("offset", "users_offset") else 0


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


@kernel
def _apply(
    rows: np.ndarray, offset: np.ndarray, kind: np.ndarray, ts: np.ndarray, item: np.ndarray,
    user_offset: np.ndarray, last_ts: np.ndarray, user_session: np.ndarray, user_depth: np.ndarray,
    counts: np.ndarray, user_rates: np.ndarray, size: np.ndarray,
    history_item: np.ndarray, history_type: np.ndarray, history_ts: np.ndarray,
    met_size: np.ndarray, met: np.ndarray, shown_size: np.ndarray, shown: np.ndarray,
    pace: np.ndarray, paced: np.ndarray, alarmed: np.ndarray, barred: np.ndarray, barred_item: np.ndarray,
    slates_size: np.ndarray, slates: np.ndarray,
    list_start: np.ndarray, list_item: np.ndarray, impression: np.ndarray, released: np.ndarray,
    limits: np.ndarray, verdict: np.ndarray, alarming: np.ndarray,
    lengths: np.ndarray, out_item: np.ndarray, out_type: np.ndarray, out_ts: np.ndarray,
    seen: np.ndarray, out_shown: np.ndarray,
    out_session: np.ndarray, out_depth: np.ndarray, out_rates: np.ndarray, applied: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    used, used_shown = 0, 0
    for i in range(rows.size):
        row = rows[i]
        fresh = ts[i] - last_ts[row] > SESSION_GAP or user_depth[row] == 0
        out_session[i] = ts[i] if fresh else user_session[row]
        out_depth[i] = 0 if fresh else user_depth[row]
        fade = np.float32(0.5 ** (max(0, ts[i] - last_ts[row]) / DAY_MS))
        for t in range(9):
            out_rates[i, t] = user_rates[row, t] * fade
        first = max(0, size[row] - SNAPSHOT)
        for h in range(first, size[row]):
            out_item[used], out_type[used], out_ts[used] = (
                history_item[row, h],
                history_type[row, h],
                history_ts[row, h],
            )
            used += 1
        lengths[i] = size[row] - first
        seen[i] = min(SHOWN, shown_size[row])
        for s in range(shown_size[row] - seen[i], shown_size[row]):
            out_shown[used_shown] = shown[row, s]
            used_shown += 1
        # A record may hold several events of one user, so the offset may stand still but must not go back.
        if offset[i] < user_offset[row] or (offset[i] == user_offset[row] and not _during(rows, offset, applied, i)):
            continue
        applied[i] = True
        user_offset[row] = offset[i]
        if kind[i] != 0 and not released[i]:
            repeats = _repeats(row, item[i], kind[i], ts[i], size, history_item, history_type, history_ts)
            forged = impression[i] != 0 and not _was_shown(row, impression[i], slates_size, slates)
            verdict[i] = judge(row, ts[i], repeats, forged, pace, paced, limits)
            if barred_item[row] == item[i] and ts[i] < barred[row] and limits[0] < np.inf:
                verdict[i] = BARRED
            if verdict[i] != 0:
                # Whoever is barred was named by an alarm already.
                alarming[i] = verdict[i] != BARRED and (alarmed[row] == 0 or ts[i] - alarmed[row] > _QUIET)
                if alarming[i]:
                    alarmed[row] = ts[i]
                continue
        counts[row, kind[i]] += 1
        for t in range(9):
            user_rates[row, t] *= fade
        user_rates[row, kind[i]] += np.float32(1)
        last_ts[row] = max(last_ts[row], ts[i])
        if kind[i] == 0:
            _show(row, list_item[list_start[i] : list_start[i + 1]], shown_size, shown)
            _show(row, impression[i : i + 1], slates_size, slates)
            continue
        if fresh:
            user_session[row], user_depth[row] = ts[i], 0
        user_depth[row] += 1
        if size[row] == _ROOM:
            keep = HISTORY - 1
            for h in range(keep):
                history_item[row, h] = history_item[row, _ROOM - keep + h]
                history_type[row, h] = history_type[row, _ROOM - keep + h]
                history_ts[row, h] = history_ts[row, _ROOM - keep + h]
            size[row] = keep
        h = size[row]
        history_item[row, h], history_type[row, h], history_ts[row, h] = item[i], kind[i], ts[i]
        size[row] += 1
        _meet(row, item[i], met_size, met)
    return used, used_shown


@kernel
def _during(rows: np.ndarray, offset: np.ndarray, applied: np.ndarray, i: int) -> bool:
    """Whether an earlier event of the same record and user was applied just now."""
    j = i - 1
    while j >= 0 and offset[j] == offset[i]:
        if rows[j] == rows[i] and applied[j]:
            return True
        j -= 1
    return False


@kernel
def _repeats(
    row: int, item: np.uint64, kind: int, ts: int, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray,
) -> bool:  # fmt: skip
    """Whether the person has done the same with the same item within a minute."""
    for h in range(size[row] - 1, max(0, size[row] - SNAPSHOT) - 1, -1):
        if items[row, h] == item and kinds[row, h] == kind and abs(ts - times[row, h]) < MINUTE_MS:
            return True
    return False


@kernel
def _was_shown(row: int, impression: np.uint64, size: np.ndarray, slates: np.ndarray) -> bool:
    for s in range(size[row] - 1, -1, -1):  # noqa: SIM110
        if slates[row, s] == impression:
            return True
    return False


@kernel
def _show(row: int, slate: np.ndarray, shown_size: np.ndarray, shown: np.ndarray) -> None:
    """Append to the row's run, which keeps half its room at least; of a slate longer than that, its upper places."""
    room = shown.shape[1] // 2
    more = min(slate.size, room)
    if shown_size[row] + more > shown.shape[1]:
        first = shown_size[row] - room
        for s in range(room):
            shown[row, s] = shown[row, first + s]
        shown_size[row] = room
    for s in range(more):
        shown[row, shown_size[row] + s] = slate[s]
    shown_size[row] += more


@kernel
def _meet(row: int, key: np.uint64, met_size: np.ndarray, met: np.ndarray) -> None:
    n = met_size[row]
    for j in range(n):
        if met[row, j] == key:
            return
    if n == met.shape[1]:
        half = n // 2
        for j in range(n - half):
            met[row, j] = met[row, half + j]
        n -= half
    met[row, n] = key
    met_size[row] = n + 1
