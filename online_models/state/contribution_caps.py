"""How far one person, or one producer, can move an item within a day."""

from dataclasses import dataclass

import numpy as np

from online_models.state.tables import Column, State, Table, joined, part_of
from stream.jit import kernel
from stream.records.batches import EventType, ExampleBatch, Kind

SHOWN, VIEWED, CLICKED, VALUED = range(4)
COUNTED_AS = np.full(len(EventType), -1, np.int8)  # a dislike counts as no sign of interest
COUNTED_AS[EventType.impression] = SHOWN
COUNTED_AS[[EventType.view, EventType.dwell]] = VIEWED
COUNTED_AS[EventType.click] = CLICKED
COUNTED_AS[[EventType.like, EventType.cart, EventType.purchase, EventType.rating]] = VALUED

MOST = 10  # actions of one person on one item that count within a day
LEAST = 100  # actions of one producer on one item that count within a day, and
_TIMES_OTHERS = 2  # as many times what all others did with it
ALARMING = 100  # beyond that, which are worth a word
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A producer that does far more with an item than counts."""

    producer: int
    item: int
    row: int  # of the batch: the action that went too far


class Caps:
    """Counts, by event day, what each producer does with each item, beside what all others do with it.

    A producer is whom events name as their sender, so that a partner, or a network with a thousand accounts, cannot
    lift an item by itself. Events that name nobody are capped by person alone.
    """

    def __init__(self) -> None:
        self._day = 0
        self._forget()
        self.exceeded: list[Exceeded] = []  # by the last batch

    def _forget(self) -> None:
        self._items, self._pairs = Table({"acts": Column("int32")}), Table({"acts": Column("int32")})

    def see(self, batch: ExampleBatch) -> np.ndarray:
        """Count a batch; returns which rows, (n,) bool, are actions beyond what counts."""
        capped = by_person(batch)
        self.exceeded = []
        acted = np.flatnonzero(batch.kind == Kind.action)
        if acted.size and (batch.producer[acted].any() or len(self._pairs)):
            self._begin(int(batch.ts[acted].max()) // _DAY_MS)
            self._by_producer(batch, acted, capped)
        return capped

    def _begin(self, day: int) -> None:
        if day > self._day:
            self._day = day
            self._forget()

    def _by_producer(self, batch: ExampleBatch, acted: np.ndarray, capped: np.ndarray) -> None:
        item, producer = batch.lists.item[batch.lists.start[acted]], batch.producer[acted]
        named = producer != 0
        pair = np.where(named, (producer ^ item * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1), np.uint64(0))
        self._items.admit(item[named])
        of_pair, of_item = self._pairs.admit(pair), self._items.find(item)
        beyond = np.zeros(acted.size, np.int64)
        _count(of_pair, of_item, self._pairs["acts"], self._items["acts"], beyond)
        capped[acted[beyond > 0]] = True
        self.exceeded = [
            Exceeded(int(producer[i]), int(item[i]), int(acted[i])) for i in np.flatnonzero(beyond == ALARMING)
        ]

    def state(self) -> State:
        parts = {"items": self._items.state(), "pairs": self._pairs.state()}
        return joined(parts) | {"day": np.array([self._day])}

    def restore(self, state: State) -> None:
        """Become what `state()` gave; versions of old counted nothing."""
        self.__init__()  # type: ignore[misc]
        if state:
            self._day = int(state["day"][0])
            self._items.restore(part_of(state, "items"))
            self._pairs.restore(part_of(state, "pairs"))

    def changes(self) -> State:
        """Nothing that a replica needs."""
        return {}

    def apply(self, changes: State) -> None:
        pass


@kernel
def _count(
    of_pair: np.ndarray, of_item: np.ndarray, by_pair: np.ndarray, by_item: np.ndarray, beyond: np.ndarray
) -> None:
    for i in range(of_pair.size):
        if of_item[i] < 0:
            continue
        if of_pair[i] >= 0:
            others = by_item[of_item[i]] - by_pair[of_pair[i]]
            by_pair[of_pair[i]] += 1
            beyond[i] = max(0, by_pair[of_pair[i]] - max(LEAST, _TIMES_OTHERS * others))
        by_item[of_item[i]] += 1


def by_person(batch: ExampleBatch) -> np.ndarray:
    """Which rows, (n,) bool, are actions of a person who did enough with that item within a day already."""
    acted, asked = np.flatnonzero(batch.kind == Kind.action), batch.questions
    capped = np.zeros(len(batch), np.bool_)
    item = batch.lists.item[batch.lists.start[acted]]
    _by_person(
        acted, item, batch.ts, asked.history_start, asked.history_item, asked.history_type, asked.history_ts,
        COUNTED_AS, capped,
    )  # fmt: skip
    return capped


@kernel
def _by_person(
    acted: np.ndarray,
    item: np.ndarray,
    ts: np.ndarray,
    start: np.ndarray,
    history_item: np.ndarray,
    history_type: np.ndarray,
    history_ts: np.ndarray,
    counted_as: np.ndarray,
    capped: np.ndarray,
) -> None:
    for a in range(acted.size):
        i, n = acted[a], 0
        for h in range(start[i], start[i + 1]):
            if history_item[h] == item[a] and counted_as[history_type[h]] > 0 and ts[i] - history_ts[h] < _DAY_MS:
                n += 1
        capped[i] = n >= MOST
