"""What the log says of each item: counts that fade over several horizons, times, and what the catalogue told."""

from dataclasses import dataclass

import numpy as np

from online_models.state.contribution_caps import COUNT_KINDS, SHOWN, VIEWED, over_user_cap
from online_models.state.tables import Column, State, Table, prefix_states, substate
from stream.jit import kernel
from stream.records.batches import CandidateLists, EventType, ExampleBatch, Kind, Queries, flatten_ragged

HORIZONS = np.array([600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 60 * 86_400], np.float64)  # half-lives in seconds
_DAY = 3  # place of the day among the horizons
NO_TIME = -(2**62)  # stands for "not known" in columns of times
N_CATEGORIES = 4


@dataclass(frozen=True, slots=True)
class UserQueries:
    """Questions whose items are found in the item table."""

    queries: Queries
    history: np.ndarray  # (h,) int32, item rows of `questions.history_item`, -1 = unknown
    shown: np.ndarray  # (s,) int32, the same of `questions.shown_item`

    def take(self, rows: np.ndarray) -> "UserQueries":
        history, _ = flatten_ragged(self.queries.history_start, rows)
        shown, _ = flatten_ragged(self.queries.shown_start, rows)
        return UserQueries(self.queries.take(rows), self.history[history], self.shown[shown])


@dataclass(frozen=True, slots=True)
class ItemLists:
    """Lists of items by their rows: list i is entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (m,) int32, -1 = an item that the table does not know
    position: np.ndarray  # (m,) int16, -1 = not shown yet
    price: np.ndarray  # (m,) float32, NaN = not said


@dataclass(frozen=True, slots=True)
class Actions:
    """What people did, in order of events: a person, one item, how it is counted."""

    users: UserQueries
    row: np.ndarray  # (n,) int32
    ts: np.ndarray  # (n,) int64, ms

    def __len__(self) -> int:
        return int(self.row.size)


@kernel
def _decay(counts: np.ndarray, stamp: np.ndarray, row: int, ts: int, horizons: np.ndarray) -> None:
    """Bring one row's counts to the time `ts`; a time before the row's own leaves them alone."""
    age = (ts - stamp[row]) / 1000.0
    if age <= 0.0:
        return
    for h in range(horizons.size):
        decay = np.float32(2.0 ** (-age / horizons[h]))
        for kind in range(counts.shape[1]):
            counts[row, kind, h] *= decay
    stamp[row] = ts


@kernel
def _count(
    rows: np.ndarray,
    types: np.ndarray,
    values: np.ndarray,
    times: np.ndarray,
    is_capped: np.ndarray,
    count_kinds: np.ndarray,
    horizons: np.ndarray,
    counts: np.ndarray,
    stamp: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    total_counts: np.ndarray,
    rating: np.ndarray,
) -> None:
    for i in range(rows.size):
        row, ts, kind = rows[i], times[i], count_kinds[types[i]]
        if row < 0:
            continue
        total_counts[row, types[i]] += 1
        if first[row] < -(2**61) or ts < first[row]:
            first[row] = ts
        if is_capped[i]:
            continue
        if types[i] == 8 and np.isfinite(values[i]) and abs(values[i]) < 1e6:
            rating[row, 0] += values[i]
            rating[row, 1] += 1
        if kind < 0:
            continue
        if kind != 0 and ts > last[row]:
            last[row] = ts
        _decay(counts, stamp, row, ts, horizons)
        lateness = (stamp[row] - ts) / 1000.0
        for h in range(horizons.size):
            counts[row, kind, h] += np.float32(2.0 ** (-lateness / horizons[h])) if lateness > 0.0 else np.float32(1.0)


class ItemTable:
    """The item table that gives all others their rows. Nothing here is trained: it only counts.

    Counters and catalogue are tables apart, in step with each other: a click does not send the categories along.
    """

    def __init__(self) -> None:
        self.counters = Table(
            {
                "counts": Column("float32", (4, HORIZONS.size)),  # as of `stamp`
                "stamp": Column("int64", fill=NO_TIME),
                "first": Column("int64", fill=NO_TIME),
                "last": Column("int64", fill=NO_TIME),
                "total_counts": Column("int32", (len(EventType),)),
                "rating": Column("float32", (2,)),  # sum, number
            }
        )
        self.catalog = Table(
            {
                "categories": Column("uint64", (N_CATEGORIES,)),
                "created": Column("int64", fill=NO_TIME),
                "price": Column("float32", fill=np.nan),
            }
        )

    def __len__(self) -> int:
        return len(self.counters)

    @property
    def keys(self) -> np.ndarray:
        return self.counters.keys

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        return self.counters.lookup(keys)

    def add_keys(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32; an unknown key gets the next row."""
        self.catalog.add_keys(keys)
        return self.counters.add_keys(keys)

    def set_attributes(self, rows: np.ndarray, categories: np.ndarray, created: np.ndarray, price: np.ndarray) -> None:
        """What the catalogue says: (n, 4) uint64 with 0 = none, (n,) int64 ms or NO_TIME, (n,) float32 or NaN."""
        self.catalog["categories"][rows] = categories
        self.catalog["created"][rows] = created
        self.catalog["price"][rows] = np.where(np.isfinite(price), price, np.float32(np.nan))
        self.catalog.mark_changed(rows)

    def resolve_queries(self, queries: Queries) -> UserQueries:
        return UserQueries(queries, self.lookup(queries.history_item), self.lookup(queries.shown_item))

    def resolve_lists(self, lists: CandidateLists) -> ItemLists:
        return ItemLists(lists.start, self.lookup(lists.item), lists.position, lists.price)

    def learn(self, batch: ExampleBatch, is_capped: np.ndarray | None = None) -> None:
        """Count what was shown and what was done; `clicked` and `closed` rows say nothing new of an item.

        What is `capped`, (n,) bool, is counted in `ever` alone; by default what one person does too often.
        """
        is_counted = (batch.kind == Kind.shown) | (batch.kind == Kind.action)
        lengths = np.diff(batch.lists.start)
        entry_mask = np.repeat(is_counted, lengths)
        rows = self.lookup(batch.lists.item[entry_mask])
        columns = batch.type, batch.value, batch.ts, over_user_cap(batch) if is_capped is None else is_capped
        types, values, times, is_capped = (np.repeat(column, lengths)[entry_mask] for column in columns)
        table = self.counters
        _count(
            rows, types, values, times, is_capped, COUNT_KINDS, HORIZONS,
            table["counts"], table["stamp"], table["first"], table["last"], table["total_counts"], table["rating"],
        )  # fmt: skip
        table.mark_changed(rows)

    def coverage_ratio(self) -> float:
        """Share of the items that were shown at least once in about a day, by the time of the newest event."""
        shown, stamp = self.counters["counts"][: len(self), SHOWN, _DAY], self.counters["stamp"][: len(self)]
        if stamp.size == 0:
            return 0.0
        current = shown * 2.0 ** ((stamp - stamp.max()) / 1000 / HORIZONS[_DAY])
        return float((current >= 0.5).mean())

    def state(self) -> State:
        return prefix_states({"counters": self.counters.state(), "catalog": self.catalog.state()})

    def restore(self, state: State) -> None:
        self.counters.restore(substate(state, "counters"))
        self.catalog.restore(substate(state, "catalog"))

    def changes(self) -> State:
        return prefix_states({"counters": self.counters.changes(), "catalog": self.catalog.changes()})

    def apply(self, changes: State) -> None:
        self.counters.apply(substate(changes, "counters"))
        self.catalog.apply(substate(changes, "catalog"))


def keys_from_rows(items: ItemTable, rows: np.ndarray) -> np.ndarray:
    """Keys of item rows, (n,) uint64, NO_KEY for -1."""
    keys = np.zeros(rows.size, np.uint64)
    keys[rows >= 0] = items.keys[rows[rows >= 0]]
    return keys


def select_actions(
    batch: ExampleBatch, items: ItemTable, users: UserQueries, is_capped: np.ndarray | None = None
) -> tuple[Actions, np.ndarray]:
    """The rows of a batch that show interest in one item and still count, and their row numbers in the batch."""
    is_interest = (batch.kind == Kind.action) & (COUNT_KINDS[batch.type] >= VIEWED)
    batch_rows = np.flatnonzero(is_interest & ~(over_user_cap(batch) if is_capped is None else is_capped))
    rows = items.lookup(batch.lists.item[batch.lists.start[batch_rows]])
    return Actions(users.take(batch_rows), rows, batch.ts[batch_rows]), batch_rows
