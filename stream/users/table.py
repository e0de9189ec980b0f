"""User state: what a person did, kept in columns, one row per person that this worker has lately met."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.ids import KeyIndex
from stream.records.batches import Questions, offsets_of
from stream.records.decoding import EventBatch
from stream.stores import Mark, UserStore
from stream.users.columns import blank, clear, forget, grown, place, records_of
from stream.users.event_kernels import Happened, People, apply, room_for
from stream.users.profiles import HISTORY, SNAPSHOT, Stored, decode_stored
from stream.users.rate_limits import OPEN, Screen


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
        self._columns = blank(rows)
        self.forget_cache()

    def forget_cache(self) -> None:
        """Drop all rows, so that each user is read from the store again; flush first."""
        if self._columns["key"].size > self._capacity:
            self._columns = blank(self._capacity)
        clear(self._columns)
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
        people = People(*(self._columns[name] for name in People._fields))
        stood = room_for(len(batch), int(np.minimum(people.size[rows] + np.arange(len(batch)), SNAPSHOT).sum()))
        happened = Happened(
            rows, batch.offset, batch.type, batch.ts, batch.item, batch.impression, batch.released,
            batch.lists.start, batch.lists.item,
        )  # fmt: skip
        used, used_shown = apply(happened, people, self._limits, stood)
        self._changed[rows[stood.applied]] = True
        self._write_down(rows, np.flatnonzero(stood.applied), stood.verdict, texts, names)
        questions = Questions(
            ts=batch.ts,
            user=batch.user,
            surface=batch.surface,
            context=batch.context,
            session_start=stood.session_start,
            session_depth=stood.session_depth,
            rates=stood.rates,
            history_start=offsets_of(stood.lengths),
            history_item=stood.item[:used],
            history_type=stood.type[:used],
            history_ts=stood.ts[:used],
            shown_start=offsets_of(stood.seen),
            shown_item=stood.shown[:used_shown],
        )
        return Applied(questions, stood.verdict, stood.alarming)

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
        self._columns = grown(self._columns, max(rows, 2 * held))
        more = self._columns["key"].size - held
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

    def _records(self, rows: np.ndarray) -> list[bytes]:
        chosen = rows.tolist()
        names = [self._names[row] for row in chosen]
        texts = [self._text(row) for row in chosen]
        return records_of(self._columns, rows, names, texts, [self._attributes[row] for row in chosen])

    def _text(self, row: int) -> bytes:
        """The lines of the history that is kept."""
        text = self._texts[row]
        if text.count(b"\n") > HISTORY:
            text = self._texts[row] = b"\n".join(text.split(b"\n")[-HISTORY - 1 :])
        return text

    def _place(self, rows: np.ndarray, records: Sequence[Stored]) -> None:
        place(self._columns, rows, records)
        for row, record in zip(rows.tolist(), records, strict=True):
            self._names[row], self._texts[row], self._attributes[row] = record.name, record.text, record.attributes

    def _forget(self, row: int) -> None:
        forget(self._columns, row)
        self._names[row] = ""
        self._texts[row] = self._attributes[row] = b""
