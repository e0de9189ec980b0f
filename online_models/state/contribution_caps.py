"""Daily caps on the actions of one user, or of one producer, that count for an item."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.state.tables import Column, State, Table, prefix_states, substate
from stream.clock import DAY_MS
from stream.ids import GOLDEN_GAMMA
from stream.jit import kernel
from stream.records.batches import EventType, ExampleBatch, Kind
from stream.records.signs import is_disliked

SHOWN, VIEWED, CLICKED, VALUED = range(4)
_MAX_RATE = 1e12  # of a user's actions of one type: a block of another process can hold any number
COUNT_KINDS = np.full(len(EventType), -1, np.int8)  # by event type; -1 = no sign of interest, such as a dislike
COUNT_KINDS[EventType.impression] = SHOWN
COUNT_KINDS[[EventType.view, EventType.dwell]] = VIEWED
COUNT_KINDS[EventType.click] = CLICKED
COUNT_KINDS[[EventType.like, EventType.cart, EventType.purchase, EventType.rating]] = VALUED


def count_kinds(batch: ExampleBatch) -> np.ndarray:
    """Kind of count of each row, (n,) int8, -1 for an action of dislike."""
    return np.where(batch.sign < 0, np.int8(-1), COUNT_KINDS[batch.type])


@dataclass(frozen=True, slots=True)
class CapSettings:
    """Actions on one item and day that count."""

    user_daily: int = 10  # of one user
    user_full_rate: float = 200.0  # recent actions of one user, with a half-life of a day, that count fully
    producer_daily: int = 100  # of one producer, or
    others_factor: int = 2  # this many times the actions of all others, if that is more
    alarm_excess: int = 100  # actions of a producer beyond its cap that raise an alarm

    def __post_init__(self) -> None:
        if min(self.user_daily, self.producer_daily, self.alarm_excess) < 1 or self.others_factor < 0:
            raise ValueError(f"caps must be at least 1 and others_factor at least 0, got {self}")


@dataclass(frozen=True, slots=True)
class CapExceeded:
    """A producer whose actions on an item exceed its cap by `CapSettings.alarm_excess`."""

    producer: int
    item: int
    row: int  # of the batch: the action that reached this excess


class HistoryColumns(NamedTuple):
    """Histories by item key: history i is the entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    item: np.ndarray  # (h,) uint64 keys
    type: np.ndarray  # (h,) uint8
    ts: np.ndarray  # (h,) int64, ms


class ContributionCaps:
    """Count the actions of each producer on each item, and those of all others, by day.

    A producer is the sender that events name, so that a partner, or a network with a thousand accounts, cannot lift an
    item by itself. Events that name no producer are capped by user alone.
    """

    def __init__(self, settings: CapSettings | None = None) -> None:
        self.settings = settings or CapSettings()
        self._day = 0
        self._items, self._pairs = Table({"actions": Column("int32")}), Table({"actions": Column("int32")})

    def update(self, batch: ExampleBatch) -> tuple[np.ndarray, tuple[CapExceeded, ...]]:
        """Count a batch; return the mask of capped actions, (n,) bool, and the violations."""
        is_capped = over_user_cap(batch, self.settings)
        violations: tuple[CapExceeded, ...] = ()
        action_rows = np.flatnonzero(batch.kind == Kind.action)
        if action_rows.size and (batch.producer[action_rows].any() or len(self._pairs)):
            self._start_day(int(batch.ts[action_rows].max()) // DAY_MS)
            violations = self._apply_producer_cap(batch, action_rows, is_capped)
        return is_capped, violations

    def _start_day(self, day: int) -> None:
        if day > self._day:
            self._day = day
            self._items.clear()
            self._pairs.clear()

    def _apply_producer_cap(
        self, batch: ExampleBatch, action_rows: np.ndarray, is_capped: np.ndarray
    ) -> tuple[CapExceeded, ...]:
        item, producer = batch.lists.item[batch.lists.start[action_rows]], batch.producer[action_rows]
        has_producer = producer != 0
        pair_keys = np.where(has_producer, (producer ^ item * GOLDEN_GAMMA) | np.uint64(1), np.uint64(0))
        self._items.add_keys(item[has_producer])
        pair_rows, item_rows = self._pairs.add_keys(pair_keys), self._items.lookup(item)
        excess = np.zeros(action_rows.size, np.int64)
        _count_excess(
            pair_rows, item_rows, self._pairs["actions"], self._items["actions"], self.settings.producer_daily,
            self.settings.others_factor, excess,
        )  # fmt: skip
        is_capped[action_rows[excess > 0]] = True
        return tuple(
            CapExceeded(int(producer[i]), int(item[i]), int(action_rows[i]))
            for i in np.flatnonzero(excess == self.settings.alarm_excess)
        )

    def state(self) -> State:
        parts = {"items": self._items.state(), "pairs": self._pairs.state()}
        return prefix_states(parts) | {"day": np.array([self._day])}

    def restore(self, state: State) -> None:
        self._day = int(state["day"][0])
        self._items.restore(substate(state, "items"))
        self._pairs.restore(substate(state, "pairs"))

    def changes(self) -> State:
        """Return nothing: replicas do not train and need no caps."""
        return {}

    def apply(self, changes: State) -> None:
        pass


@kernel
def _count_excess(
    pair_rows: np.ndarray,
    item_rows: np.ndarray,
    pair_counts: np.ndarray,
    item_counts: np.ndarray,
    producer_daily: int,
    others_factor: int,
    excess: np.ndarray,
) -> None:
    for i in range(pair_rows.size):
        if item_rows[i] < 0:
            continue
        if pair_rows[i] >= 0:
            others = item_counts[item_rows[i]] - pair_counts[pair_rows[i]]
            pair_counts[pair_rows[i]] += 1
            excess[i] = max(0, pair_counts[pair_rows[i]] - max(producer_daily, others_factor * others))
        item_counts[item_rows[i]] += 1


def user_weights(batch: ExampleBatch, settings: CapSettings | None = None) -> np.ndarray:
    """Weight of each row in decayed counts, (n,) float32: below 1 for users of many actions.

    A shared login or a scraper would otherwise decide what is popular.
    """
    rates = np.nan_to_num(batch.queries.rates[:, EventType.impression + 1 :]).clip(0, _MAX_RATE)
    rate = rates.sum(axis=1)
    weights: np.ndarray = np.minimum(
        np.float32(1), np.float32((settings or CapSettings()).user_full_rate) / np.maximum(rate, 1)
    )
    return weights


def over_user_cap(batch: ExampleBatch, settings: CapSettings | None = None) -> np.ndarray:
    """Return the mask, (n,) bool, of actions by users who have reached their daily cap."""
    action_rows, queries = np.flatnonzero(batch.kind == Kind.action), batch.queries
    types = np.where(is_disliked(queries.history_type), np.uint8(EventType.dislike), queries.history_type)
    history = HistoryColumns(queries.history_start, queries.history_item, types, queries.history_ts)
    item = batch.lists.item[batch.lists.start[action_rows]]
    is_capped = np.zeros(len(batch), np.bool_)
    _mark_over_user_cap(action_rows, item, batch.ts, history, (settings or CapSettings()).user_daily, is_capped)
    return is_capped


@kernel
def _mark_over_user_cap(
    action_rows: np.ndarray,
    item: np.ndarray,
    ts: np.ndarray,
    history: HistoryColumns,
    user_daily: int,
    is_capped: np.ndarray,
) -> None:
    start, history_item, history_type, history_ts = history
    for a in range(action_rows.size):
        i, n = action_rows[a], 0
        for h in range(start[i], start[i + 1]):
            if history_item[h] == item[a] and COUNT_KINDS[history_type[h]] > 0 and ts[i] - history_ts[h] < DAY_MS:
                n += 1
        is_capped[i] = n >= user_daily
