"""Item table: rows by key, decayed counts over several horizons, and catalog attributes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.state.contribution_caps import SHOWN, VIEWED, count_kinds, over_user_cap, user_weights
from online_models.state.item_ids import ItemIdTable
from online_models.state.tables import Column, State, Table, prefix_states, substate
from stream.jit import kernel
from stream.records.batches import CandidateLists, EventType, ExampleBatch, Kind, Queries, flatten_ragged
from stream.records.fields import N_ITEM_KEYS, fold_keys
from stream.records.signs import is_disliked

HORIZONS = np.array([600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 60 * 86_400], np.float64)  # half-lives in seconds
TEN_MINUTES, HOUR, SIX_HOURS, DAY, WEEK, TWO_MONTHS = range(HORIZONS.size)  # indices of HORIZONS
NO_TIME = -(2**62)  # stands for "unknown" in columns of times
N_CATEGORIES = 16
UNLISTED, LISTED, DELETED = range(3)  # status of an item: the catalog never had it, has it, has deleted it
_NEW_ITEMS = 1_000  # items that events may name before one event is no longer enough, see `is_established`
_MAX_RATING = 1e6  # absolute value beyond which a rating is ignored


class QueryColumns(NamedTuple):
    """Columns of n queries; the history of query i is [history_start[i], history_start[i + 1])."""

    ts: np.ndarray  # (n,) int64, ms
    session_start: np.ndarray  # (n,) int64, ms
    session_depth: np.ndarray  # (n,) int32
    history_start: np.ndarray  # (n + 1,) int64
    history: np.ndarray  # (h,) int32 item rows, oldest first, -1 = unknown or disliked
    disliked: np.ndarray  # (h,) int32 item rows of the disliked ones among them, else -1
    history_type: np.ndarray  # (h,) uint8
    history_ts: np.ndarray  # (h,) int64, ms
    shown_start: np.ndarray  # (n + 1,) int64
    shown: np.ndarray  # (s,) int32 item rows, -1 = unknown


@dataclass(frozen=True, slots=True)
class UserQueries:
    """Queries with the item rows of their histories and of their recent impressions."""

    queries: Queries
    history: np.ndarray  # (h,) int32, item rows of `queries.history_item`, -1 = unknown or disliked
    shown: np.ndarray  # (s,) int32, item rows of `queries.shown_item`
    disliked: np.ndarray  # (h,) int32, item rows of disliked items, -1 = another entry

    def __len__(self) -> int:
        return int(self.queries.ts.size)

    @property
    def history_keys(self) -> np.ndarray:
        """Item keys of `history`, (h,) uint64; 0 for its entries of -1."""
        return np.where(self.history >= 0, self.queries.history_item, np.uint64(0))

    @property
    def columns(self) -> QueryColumns:
        queries = self.queries
        return QueryColumns(
            queries.ts, queries.session_start, queries.session_depth, queries.history_start, self.history,
            self.disliked, queries.history_type, queries.history_ts, queries.shown_start, self.shown,
        )  # fmt: skip

    def take(self, rows: np.ndarray) -> "UserQueries":
        """Return the queries of the given rows, in that order."""
        history, _ = flatten_ragged(self.queries.history_start, rows)
        shown, _ = flatten_ragged(self.queries.shown_start, rows)
        return UserQueries(self.queries.take(rows), self.history[history], self.shown[shown], self.disliked[history])


class ItemLists(NamedTuple):
    """Lists of items by row: list i is the entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (m,) int32, -1 = an item that the table does not know
    position: np.ndarray  # (m,) int16, -1 = not shown yet
    price: np.ndarray  # (m,) float32, NaN = unknown


@dataclass(frozen=True, slots=True)
class Actions:
    """Actions that train retrievers, in order of events: each has a query and one item."""

    users: UserQueries
    row: np.ndarray  # (n,) int32
    ts: np.ndarray  # (n,) int64, ms
    new_rows: np.ndarray | None = None  # int32, items whose first event is in this batch; None = items of the actions

    def __len__(self) -> int:
        return int(self.row.size)


class ItemEvents(NamedTuple):
    """Events to count, in order, each of one item."""

    row: np.ndarray  # (n,) int32, -1 = unknown
    type: np.ndarray  # (n,) uint8
    kind: np.ndarray  # (n,) int8, kind of count, -1 = none
    value: np.ndarray  # (n,) float32
    ts: np.ndarray  # (n,) int64, ms
    is_capped: np.ndarray  # (n,) bool
    weight: np.ndarray  # (n,) float32, in decayed counts


class ItemCounters(NamedTuple):
    """Counter columns of the item table, by item row."""

    counts: np.ndarray  # (rows, 4, horizons) float32, decayed to `stamp`, by kind of event
    stamp: np.ndarray  # int64, ms
    first: np.ndarray  # int64, ms, first event
    last: np.ndarray  # int64, ms, latest action
    total_counts: np.ndarray  # (rows, event types) int32, never decayed
    rating: np.ndarray  # (rows, 2) float32: sum, number


class CatalogColumns(NamedTuple):
    """Catalog columns of the item table, by item row."""

    categories: np.ndarray  # (rows, N_CATEGORIES) uint64, 0 = none
    created: np.ndarray  # int64, ms
    price: np.ndarray  # float32, NaN = unknown


@kernel
def _decay(counts: np.ndarray, stamp: np.ndarray, row: int, ts: int) -> None:
    """Decay one row's counts to `ts`; a time before the row's own changes nothing."""
    age = (ts - stamp[row]) / 1000.0
    if age <= 0.0:
        return
    for h in range(HORIZONS.size):
        decay = np.float32(2.0 ** (-age / HORIZONS[h]))
        for kind in range(counts.shape[1]):
            counts[row, kind, h] *= decay
    stamp[row] = ts


@kernel
def _count(events: ItemEvents, counters: ItemCounters) -> None:
    rows, types, kinds, values, times, is_capped, weights = events
    counts, stamp, first, last, total_counts, rating = counters
    for i in range(rows.size):
        row, ts, kind = rows[i], times[i], kinds[i]
        if row < 0:
            continue
        total_counts[row, types[i]] += 1
        if first[row] < -(2**61) or ts < first[row]:
            first[row] = ts
        if is_capped[i]:
            continue
        if types[i] == 8 and np.isfinite(values[i]) and abs(values[i]) < _MAX_RATING:
            rating[row, 0] += values[i]
            rating[row, 1] += 1
        if kind < 0:
            continue
        if kind != 0 and ts > last[row]:
            last[row] = ts
        _decay(counts, stamp, row, ts)
        lateness = (stamp[row] - ts) / 1000.0
        for h in range(HORIZONS.size):
            decay = np.float32(2.0 ** (-lateness / HORIZONS[h])) if lateness > 0.0 else np.float32(1.0)
            counts[row, kind, h] += decay * weights[i]


class ItemTable:
    """Assign the item rows that all other tables use, and count events; nothing here is trained.

    Counters and catalog are separate tables with the same rows: a click does not publish the item's categories again.
    `ids` has the ids that came with events; those of the catalog stand in the items topic.
    """

    def __init__(self) -> None:
        self.ids = ItemIdTable()
        self._n_named = 0  # rows that events created: the catalog did not have their item then
        self.counters = Table(
            {
                "counts": Column("float32", (4, HORIZONS.size)),
                "stamp": Column("int64", fill=NO_TIME),
                "first": Column("int64", fill=NO_TIME),
                "last": Column("int64", fill=NO_TIME),
                "total_counts": Column("int32", (len(EventType),)),
                "rating": Column("float32", (2,)),
            }
        )
        self.catalog = Table(
            {
                "categories": Column("uint64", (N_CATEGORIES,)),
                "created": Column("int64", fill=NO_TIME),
                "price": Column("float32", fill=np.nan),
                "status": Column("uint8", fill=UNLISTED),
                "fields": Column("uint32", (N_ITEM_KEYS,)),
            }
        )

    def __len__(self) -> int:
        return len(self.counters)

    @property
    def keys(self) -> np.ndarray:
        """Keys by row, (len(items),) uint64."""
        return self.counters.keys

    @property
    def counter_columns(self) -> ItemCounters:
        table = self.counters
        return ItemCounters(
            table["counts"], table["stamp"], table["first"], table["last"], table["total_counts"], table["rating"]
        )

    @property
    def catalog_columns(self) -> CatalogColumns:
        return CatalogColumns(self.catalog["categories"], self.catalog["created"], self.catalog["price"])

    @property
    def field_keys(self) -> np.ndarray:
        """Keys of the catalog's fields by row, (rows, N_ITEM_KEYS) uint32, 0 = none.

        They stand for creator, categories, tags, attributes and title, in this order: `fold_keys(field_key(name,
        value))` of `stream.records.fields`.
        """
        return self.catalog["fields"]

    def set_field_keys(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Write the keys of fields, (n, N_ITEM_KEYS) uint64, 0 = none."""
        self.catalog["fields"][rows] = fold_keys(keys)
        self.catalog.mark_changed(rows)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Return rows of keys, (n,) int32; -1 where a key is unknown."""
        return self.counters.lookup(keys)

    def add_keys(self, keys: np.ndarray) -> np.ndarray:
        """Return rows of keys, (n,) int32; an unknown key gets the next row."""
        self.catalog.add_keys(keys)
        return self.counters.add_keys(keys)

    def add_named(self, keys: np.ndarray, max_rows: int) -> int:
        """Add the items that events name, up to `max_rows`; return the number of items left out."""
        n_before, n_left_out = len(self), 0
        if self._n_named + keys.size > max_rows:  # only then it is worth to find the unknown keys
            unknown = keys[(self.lookup(keys) < 0) & (keys != 0)]
            _, first = np.unique(unknown, return_index=True)
            room = max(0, max_rows - self._n_named)
            n_left_out = max(0, first.size - room)
            keys = unknown[np.sort(first)[:room]]
        self.add_keys(keys)
        self._n_named += len(self) - n_before
        return n_left_out

    def is_established(self, rows: np.ndarray) -> np.ndarray:
        """Return True for each row, (n,) bool, that may be offered as a new item.

        These are the items of the catalog, and those that at least two events named. One event is enough while events
        have named few items. Otherwise a flood of invented ids would take the places of the other new items.
        """
        if self._n_named <= _NEW_ITEMS:
            return np.ones(rows.size, np.bool_)
        is_established: np.ndarray = self.catalog["status"][rows] == LISTED
        is_established |= self.counters["total_counts"][rows].sum(axis=1) >= 2
        return is_established

    def truncate(self, n_rows: int) -> None:
        """Remove the rows from `n_rows` on, which no event has named."""
        self.counters.truncate(n_rows)
        self.catalog.truncate(n_rows)

    def set_deleted(self, rows: np.ndarray) -> None:
        """Remember that the catalog has deleted items: the items topic forgets it after a day."""
        self.catalog["status"][rows] = DELETED
        self.catalog.mark_changed(rows)

    def set_attributes(self, rows: np.ndarray, categories: np.ndarray, created: np.ndarray, price: np.ndarray) -> None:
        """Write catalog attributes.

        `categories`: (n, ≤ N_CATEGORIES) uint64, 0 = none; `created`: (n,) int64 ms or NO_TIME; `price`: (n,) float32
        or NaN.
        """
        self.catalog["status"][rows] = LISTED
        self.catalog["categories"][rows] = 0
        self.catalog["categories"][rows, : categories.shape[1]] = categories
        self.catalog["created"][rows] = created
        self.catalog["price"][rows] = np.where(np.isfinite(price), price, np.float32(np.nan))
        self.catalog.mark_changed(rows)

    def resolve_queries(self, queries: Queries) -> UserQueries:
        """Look up the rows of all items that the queries name."""
        rows, mask = self.lookup(queries.history_item), is_disliked(queries.history_type)
        history, disliked = np.where(mask, np.int32(-1), rows), np.where(mask, rows, np.int32(-1))
        return UserQueries(queries, history, self.lookup(queries.shown_item), disliked)

    def resolve_lists(self, lists: CandidateLists) -> ItemLists:
        return ItemLists(lists.start, self.lookup(lists.item), lists.position, lists.price)

    def learn(
        self, batch: ExampleBatch, is_capped: np.ndarray | None = None, exposure: np.ndarray | None = None
    ) -> None:
        """Count impressions and actions; `clicked` and `closed` rows repeat them and are ignored.

        Rows in `is_capped`, (n,) bool, count in `total_counts` only; by default the actions over the user cap.
        `exposure`, (m,) float32: weight of each entry of `batch.lists` in decayed counts; by default 1.
        """
        is_counted = (batch.kind == Kind.shown) | (batch.kind == Kind.action)
        lengths = np.diff(batch.lists.start)
        entry_mask = np.repeat(is_counted, lengths)
        rows = self.lookup(batch.lists.item[entry_mask])
        columns = (
            batch.type,
            count_kinds(batch),
            batch.value,
            batch.ts,
            over_user_cap(batch) if is_capped is None else is_capped,
            user_weights(batch),
        )
        events = ItemEvents(rows, *(np.repeat(column, lengths)[entry_mask] for column in columns))
        if exposure is not None:
            events = events._replace(weight=events.weight * exposure[entry_mask])
        _count(events, self.counter_columns)
        self.counters.mark_changed(rows)

    def coverage_ratio(self) -> float:
        """Share of items that were shown within about a day before the newest event."""
        shown, stamp = self.counters["counts"][: len(self), SHOWN, DAY], self.counters["stamp"][: len(self)]
        if stamp.size == 0:
            return 0.0
        current = shown * 2.0 ** ((stamp - stamp.max()) / 1000 / HORIZONS[DAY])
        return float((current >= 0.5).mean())

    def state(self) -> State:
        parts = {"counters": self.counters.state(), "catalog": self.catalog.state(), "ids": self.ids.state()}
        return prefix_states(parts) | {"named": np.array([self._n_named])}

    def restore(self, state: State) -> None:
        self.counters.restore(substate(state, "counters"))
        self.catalog.restore(substate(state, "catalog"))
        self.ids.restore(substate(state, "ids"))
        self._n_named = int(state["named"][0]) if "named" in state else 0

    def changes(self) -> State:
        parts = {"counters": self.counters.changes(), "catalog": self.catalog.changes(), "ids": self.ids.changes()}
        return prefix_states(parts) | {"named": np.array([self._n_named])}

    def apply(self, changes: State) -> None:
        self.counters.apply(substate(changes, "counters"))
        self.catalog.apply(substate(changes, "catalog"))
        self.ids.apply(substate(changes, "ids"))
        self._n_named = int(changes["named"][0]) if "named" in changes else self._n_named


def keys_from_rows(items: ItemTable, rows: np.ndarray) -> np.ndarray:
    """Return keys of item rows, (n,) uint64; NO_KEY for -1."""
    keys = np.zeros(rows.size, np.uint64)
    keys[rows >= 0] = items.keys[rows[rows >= 0]]
    return keys


def select_actions(
    batch: ExampleBatch, items: ItemTable, users: UserQueries, is_capped: np.ndarray
) -> tuple[Actions, np.ndarray]:
    """Return the actions on known items that show interest and are not capped, with their rows."""
    is_interest = (batch.kind == Kind.action) & (count_kinds(batch) >= VIEWED)
    batch_rows = np.flatnonzero(is_interest & ~is_capped)
    rows = items.lookup(batch.lists.item[batch.lists.start[batch_rows]])
    batch_rows, rows = batch_rows[rows >= 0], rows[rows >= 0]
    return Actions(users.take(batch_rows), rows, batch.ts[batch_rows]), batch_rows
