"""How far one person, or one producer, can move an item within a day."""

from dataclasses import dataclass

import numpy as np

from online_models.state.tables import Column, State, Table, prefix_states, substate
from stream.jit import kernel
from stream.records.batches import EventType, ExampleBatch, Kind

SHOWN, VIEWED, CLICKED, VALUED = range(4)
COUNT_KINDS = np.full(len(EventType), -1, np.int8)  # a dislike counts as no sign of interest
COUNT_KINDS[EventType.impression] = SHOWN
COUNT_KINDS[[EventType.view, EventType.dwell]] = VIEWED
COUNT_KINDS[EventType.click] = CLICKED
COUNT_KINDS[[EventType.like, EventType.cart, EventType.purchase, EventType.rating]] = VALUED

USER_DAILY_CAP = 10  # actions of one person on one item that count within a day
PRODUCER_DAILY_FLOOR = 100  # actions of one producer on one item that count within a day, and
_OTHERS_FACTOR = 2  # as many times what all others did with it
ALARM_EXCESS = 100  # beyond that, which are worth a word
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class CapExceeded:
    """A producer that does far more with an item than counts."""

    producer: int
    item: int
    row: int  # of the batch: the action that went too far


class ContributionCaps:
    """Counts, by event day, what each producer does with each item, beside what all others do with it.

    A producer is whom events name as their sender, so that a partner, or a network with a thousand accounts, cannot
    lift an item by itself. Events that name nobody are capped by person alone.
    """

    def __init__(self) -> None:
        self._day = 0
        self._reset_counts()
        self.violations: list[CapExceeded] = []  # by the last batch

    def _reset_counts(self) -> None:
        self._items, self._pairs = Table({"actions": Column("int32")}), Table({"actions": Column("int32")})

    def update(self, batch: ExampleBatch) -> np.ndarray:
        """Count a batch; returns which rows, (n,) bool, are actions beyond what counts."""
        is_capped = over_user_cap(batch)
        self.violations = []
        action_rows = np.flatnonzero(batch.kind == Kind.action)
        if action_rows.size and (batch.producer[action_rows].any() or len(self._pairs)):
            self._start_day(int(batch.ts[action_rows].max()) // _DAY_MS)
            self._apply_producer_cap(batch, action_rows, is_capped)
        return is_capped

    def _start_day(self, day: int) -> None:
        if day > self._day:
            self._day = day
            self._reset_counts()

    def _apply_producer_cap(self, batch: ExampleBatch, action_rows: np.ndarray, is_capped: np.ndarray) -> None:
        item, producer = batch.lists.item[batch.lists.start[action_rows]], batch.producer[action_rows]
        has_producer = producer != 0
        pair_keys = np.where(
            has_producer, (producer ^ item * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1), np.uint64(0)
        )
        self._items.add_keys(item[has_producer])
        pair_rows, item_rows = self._pairs.add_keys(pair_keys), self._items.lookup(item)
        excess = np.zeros(action_rows.size, np.int64)
        _count_excess(pair_rows, item_rows, self._pairs["actions"], self._items["actions"], excess)
        is_capped[action_rows[excess > 0]] = True
        self.violations = [
            CapExceeded(int(producer[i]), int(item[i]), int(action_rows[i]))
            for i in np.flatnonzero(excess == ALARM_EXCESS)
        ]

    def state(self) -> State:
        parts = {"items": self._items.state(), "pairs": self._pairs.state()}
        return prefix_states(parts) | {"day": np.array([self._day])}

    def restore(self, state: State) -> None:
        """Become what `state()` gave; versions of old counted nothing."""
        self.__init__()  # type: ignore[misc]
        if state:
            self._day = int(state["day"][0])
            self._items.restore(substate(state, "items"))
            self._pairs.restore(substate(state, "pairs"))

    def changes(self) -> State:
        """Nothing that a replica needs."""
        return {}

    def apply(self, changes: State) -> None:
        pass


@kernel
def _count_excess(
    pair_rows: np.ndarray, item_rows: np.ndarray, pair_counts: np.ndarray, item_counts: np.ndarray, excess: np.ndarray
) -> None:
    for i in range(pair_rows.size):
        if item_rows[i] < 0:
            continue
        if pair_rows[i] >= 0:
            others = item_counts[item_rows[i]] - pair_counts[pair_rows[i]]
            pair_counts[pair_rows[i]] += 1
            excess[i] = max(0, pair_counts[pair_rows[i]] - max(PRODUCER_DAILY_FLOOR, _OTHERS_FACTOR * others))
        item_counts[item_rows[i]] += 1


def over_user_cap(batch: ExampleBatch) -> np.ndarray:
    """Which rows, (n,) bool, are actions of a person who did enough with that item within a day already."""
    action_rows, queries = np.flatnonzero(batch.kind == Kind.action), batch.queries
    is_capped = np.zeros(len(batch), np.bool_)
    item = batch.lists.item[batch.lists.start[action_rows]]
    _mark_over_user_cap(
        action_rows, item, batch.ts, queries.history_start, queries.history_item, queries.history_type, queries.history_ts,
        COUNT_KINDS, is_capped,
    )  # fmt: skip
    return is_capped


@kernel
def _mark_over_user_cap(
    action_rows: np.ndarray,
    item: np.ndarray,
    ts: np.ndarray,
    start: np.ndarray,
    history_item: np.ndarray,
    history_type: np.ndarray,
    history_ts: np.ndarray,
    count_kinds: np.ndarray,
    is_capped: np.ndarray,
) -> None:
    for a in range(action_rows.size):
        i, n = action_rows[a], 0
        for h in range(start[i], start[i + 1]):
            if history_item[h] == item[a] and count_kinds[history_type[h]] > 0 and ts[i] - history_ts[h] < _DAY_MS:
                n += 1
        is_capped[i] = n >= USER_DAILY_CAP
