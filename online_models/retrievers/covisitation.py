"""Item-to-item covisitation: decayed counts of pairs, with the top neighbors of each item."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from online_models.retrievers.candidates import CandidateFilter, Channel, Exclusions, make_filter
from online_models.retrievers.covisit_pairs import (
    ChangedHistories,
    CovisitTable,
    PairWeights,
    add_pair,
    relearn_pairs,
)
from online_models.retrievers.history_scan import (
    SourceLists,
    Sources,
    allocate_sources,
    retrieve_from_sources,
    write_source_scores,
)
from online_models.retrievers.retriever import Retriever
from online_models.state.cell_table import ALL_CELLS, CellTable
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import NO_TIME, Actions, ItemLists, ItemTable, UserQueries, keys_from_rows
from online_models.state.tables import Column, State
from online_models.state.workspace import Workspace
from stream.jit import as_tuple, kernel


@dataclass(frozen=True, slots=True)
class CovisitSettings:
    neighbors: int = 64  # kept per item, a multiple of 64
    window: int = 10  # earlier items that an action is paired with
    backward: float = 0.5  # weight of the pair later → earlier; earlier → later has weight 1
    decay: float = 0.9  # factor of a pair's weight per item between the two
    half_life: float = 30 * 86_400.0  # seconds
    depth: int = 32  # latest history items whose neighbors are candidates
    recency_decay: float = 0.8  # factor of a history item's weight per later item
    prior_support: float = 3.0  # pairs that smooth the share of a neighbor
    rescale_half_lives: float = 40.0  # age of a row's unit at which the row is rescaled, so that float32 is enough

    def __post_init__(self) -> None:
        if self.half_life <= 0:
            raise ValueError(f"half_life must be a positive number of seconds, got {self.half_life}")
        if min(self.neighbors, self.window, self.depth) < 1:
            raise ValueError(f"neighbors, window and depth must be at least 1, got {self}")
        if not (0 < self.decay <= 1 and 0 < self.recency_decay <= 1 and self.prior_support > 0):
            raise ValueError(f"decay and recency_decay must be in (0, 1] and prior_support positive, got {self}")


class Pairs(NamedTuple):
    """Actions with the histories before them; `table_row` columns are rows of `CovisitTable`."""

    item: np.ndarray  # (n,) int32
    table_row: np.ndarray  # (n,) int32
    ts: np.ndarray  # (n,) int64, ms
    history_start: np.ndarray  # (n + 1,) int64
    history: np.ndarray  # (h,) int32
    history_table_row: np.ndarray  # (h,) int32


@kernel
def _rescale(
    rows: np.ndarray, latest: int, half_life_ms: float, rescale_half_lives: float, table: CovisitTable
) -> None:
    """Express rows in the unit of the time `latest` where their own unit is too old for float32."""
    base, total, _, weight, changed = table
    for i in range(rows.size):
        row = rows[i]
        if row < 0:
            continue
        age = (latest - base[row]) / half_life_ms
        if base[row] > -(2**61) and age < rescale_half_lives:
            continue
        decay = np.float32(2.0**-age) if base[row] > -(2**61) else np.float32(0.0)
        base[row] = latest
        total[row] *= decay
        weight[row] *= decay
        changed[row] = ALL_CELLS


@kernel
def _learn(pairs: Pairs, weights: PairWeights, table: CovisitTable) -> None:
    """Pair each action with the items before it, in both directions."""
    item, table_row, ts, start, history, history_table_row = pairs
    window, backward, decay, half_life_ms = weights
    base, total, neighbor, weight, changed = table
    for i in range(item.size):
        if item[i] < 0:
            continue
        amount = 1.0
        for back in range(min(window, start[i + 1] - start[i])):
            h = start[i + 1] - 1 - back
            if history[h] >= 0 and history_table_row[h] >= 0 and history[h] != item[i]:
                earlier, later = history_table_row[h], table_row[i]
                forward = np.float32(amount * 2.0 ** ((ts[i] - base[earlier]) / half_life_ms))
                backward_amount = np.float32(backward * amount * 2.0 ** ((ts[i] - base[later]) / half_life_ms))
                add_pair(earlier, item[i], forward, neighbor, weight, changed)
                add_pair(later, history[h], backward_amount, neighbor, weight, changed)
                total[earlier] += forward
                total[later] += backward_amount
            amount *= decay


@kernel
def _find_sources(
    ts: np.ndarray, start: np.ndarray, history_table_row: np.ndarray, table: CovisitTable, depth: int,
    half_life_ms: float, recency_decay: float, prior_support: float,
) -> Sources:  # fmt: skip
    """Return the latest known history items of each query as its sources.

    A neighbor's value is its share of all pairs of the item. Score 0 takes the latest item alone; score 1 weights
    items by recency; score 2 weights them by sqrt(support).
    """
    base, total, _, _, _ = table
    sources = allocate_sources(ts.size, history_table_row.size, 3)
    source_start, row, scale, coefficient = sources
    count = 0
    for i in range(ts.size):
        amount, is_latest = np.float32(1.0), True
        for back in range(min(depth, start[i + 1] - start[i])):
            at = history_table_row[start[i + 1] - 1 - back]
            if at < 0:
                continue
            unit = np.float32(2.0 ** ((base[at] - ts[i]) / half_life_ms))
            support = total[at] * unit + np.float32(prior_support)
            row[count], scale[count] = at, unit / support
            coefficient[count, 0] = np.float32(1.0) if is_latest else np.float32(0.0)
            coefficient[count, 1], coefficient[count, 2] = amount, np.sqrt(support)
            count += 1
            amount *= np.float32(recency_decay)
            is_latest = False
        source_start[i + 1] = count
    return sources


@kernel
def _retrieve(
    ts: np.ndarray, start: np.ndarray, history_table_row: np.ndarray, table: CovisitTable, depth: int,
    half_life_ms: float, recency_decay: float, prior_support: float, candidates: CandidateFilter, result: np.ndarray,
) -> None:  # fmt: skip
    sources = _find_sources(ts, start, history_table_row, table, depth, half_life_ms, recency_decay, prior_support)
    _, _, neighbor, weight, _ = table
    no_event_counts, pool_size = np.empty((0, 1), np.int32), depth * neighbor.shape[1]
    retrieve_from_sources(
        sources, SourceLists(neighbor, weight), candidates, no_event_counts, pool_size, (0, 1, 2), result
    )


@kernel
def _write_scores(
    ts: np.ndarray, start: np.ndarray, history_table_row: np.ndarray, table: CovisitTable, depth: int,
    half_life_ms: float, recency_decay: float, prior_support: float, list_start: np.ndarray, row: np.ndarray,
    entry_index: np.ndarray, out: np.ndarray, column: int,
) -> None:  # fmt: skip
    sources = _find_sources(ts, start, history_table_row, table, depth, half_life_ms, recency_decay, prior_support)
    _, _, neighbor, weight, _ = table
    columns = (column, column + 1, column + 2)
    write_source_scores(sources, SourceLists(neighbor, weight), list_start, row, entry_index, out, columns)


class CovisitationRetriever(Retriever):
    """Find the items that occur near the items of a history, by decayed counts of pairs."""

    channel = Channel.covisit
    names: tuple[str, ...] = ("covisit_last", "covisit_recent", "covisit_wide")
    scales: tuple[float, ...] = (100.0, 100.0, 10.0)

    def __init__(
        self, items: ItemTable, settings: CovisitSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = setting = settings or CovisitSettings()
        self._items, self._workspace = items, workspace or Workspace()
        self._half_life_ms = 1000.0 * setting.half_life
        narrow = {"base": Column("int64", fill=NO_TIME), "total": Column("float32")}
        wide = {"neighbor": Column("int32", fill=-1), "weight": Column("float32")}
        self.table = CellTable(narrow, wide, setting.neighbors)

    def _columns(self) -> CovisitTable:
        table = self.table
        return CovisitTable(table["base"], table["total"], table["neighbor"], table["weight"], table["changed"])

    def learn(self, actions: Actions) -> None:
        """Count the pairs of each action's item with the items before it."""
        if not len(actions):
            return
        users, queries, setting = actions.users, actions.users.queries, self.settings
        table_rows = self.table.add_keys(self._items.keys[actions.row])
        history_table_rows = self.table.add_keys(keys_from_rows(self._items, users.history))
        columns, rows = self._columns(), np.unique(np.concatenate([table_rows, history_table_rows]))
        _rescale(rows, int(actions.ts.max()), self._half_life_ms, setting.rescale_half_lives, columns)
        pairs = Pairs(actions.row, table_rows, actions.ts, queries.history_start, users.history, history_table_rows)
        _learn(pairs, self._pair_weights(), columns)

    def relearn(self, changes: HistoryChanges) -> None:
        """Replace the pairs of histories that have changed by those of what remains."""
        users = changes.users
        table_rows = self.table.lookup(users.history_keys)
        items = np.where(table_rows >= 0, users.history, np.int32(-1))
        columns, latest = self._columns(), int(users.queries.ts.max())
        _rescale(np.unique(table_rows), latest, self._half_life_ms, self.settings.rescale_half_lives, columns)
        histories = ChangedHistories(
            users.queries.history_start,
            items,
            table_rows,
            users.queries.history_ts,
            changes.is_changed,
            changes.is_merge,
        )
        relearn_pairs(histories, self._pair_weights(), columns)
        self.table.mark_changed(table_rows)

    def _pair_weights(self) -> PairWeights:
        setting = self.settings
        return PairWeights(setting.window, setting.backward, setting.decay, self._half_life_ms)

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        result = np.empty((len(users), k), np.int32)
        candidates = make_filter(self._items, self._workspace, len(users), eligible, exclusions)
        _retrieve(*self._scan_arguments(users), candidates, result)
        return result

    def measure_similarity(self, row: int, ts: int, others: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Similarity of n other items to an item at a time, ms, (n,) float64, 0 to 1.

        It is the share of the item's pairs that are with the other one: (pairs with it + prior_support × prior) / (all
        pairs + prior_support). `prior`: (n,) 0 to 1, similarity by other evidence; its part shrinks with each pair.
        """
        support = self.settings.prior_support
        table_row = int(self.table.lookup(self._items.keys[[row]])[0])
        if table_row < 0:
            return prior.astype(float)
        base, total, neighbor, weight, _ = self._columns()
        unit = 2.0 ** (float(base[table_row] - ts) / self._half_life_ms)
        is_pair = neighbor[table_row] == others[:, None]  # (n, neighbors)
        pairs = (is_pair * weight[table_row].astype(float)).sum(axis=1) * unit
        similarity: np.ndarray = np.minimum(1.0, (pairs + support * prior) / (float(total[table_row]) * unit + support))
        return similarity

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        entry_index = self._workspace.reserve(len(self._items))
        _write_scores(*self._scan_arguments(users), lists.start, lists.row, entry_index, out, column)

    def _scan_arguments(self, users: UserQueries) -> tuple[Any, ...]:
        queries, setting = users.queries, self.settings
        history_table_rows = self.table.lookup(users.history_keys)
        return (
            queries.ts, queries.history_start, history_table_rows, as_tuple(self._columns()), setting.depth,
            self._half_life_ms, setting.recency_decay, setting.prior_support,
        )  # fmt: skip

    def state(self) -> State:
        return self.table.state()

    def restore(self, state: State) -> None:
        self.table.restore(state)

    def changes(self) -> State:
        return self.table.changes()

    def apply(self, changes: State) -> None:
        self.table.apply(changes)
