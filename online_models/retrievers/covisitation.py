"""Items met after and before one another: decayed counts of pairs, the top few neighbours kept for each item."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import MASKED, Exclusions, mask, top_k, unmask
from online_models.state.cell_table import ALL_CELLS, CellTable
from online_models.state.item_table import NO_TIME, Actions, ItemLists, ItemTable, UserQueries, keys_from_rows
from online_models.state.tables import Column, State
from online_models.state.workspace import Workspace
from stream.jit import kernel

_RESCALE_HALF_LIVES = 40.0  # half-lives until a row's unit is renewed: float32 weights stay far from overflow


@dataclass(frozen=True, slots=True)
class CovisitSettings:
    neighbors: int = 64  # kept per item, a multiple of 64
    window: int = 10  # earlier items that an action is paired with
    backward: float = 0.5  # weight of the pair later → earlier; earlier → later weighs 1
    decay: float = 0.9  # weight of a pair per item between the two
    half_life: float = 30 * 86_400.0  # seconds
    depth: int = 32  # latest history items that are asked for their neighbours

    def __post_init__(self) -> None:
        if self.half_life <= 0:
            raise ValueError(f"half_life must be a positive number of seconds, got {self.half_life}")


@kernel
def _rescale(rows: np.ndarray, latest: int, half_life_ms: float, base: np.ndarray, total: np.ndarray,
           weight: np.ndarray, changed: np.ndarray) -> None:  # fmt: skip
    """Express rows in the unit of the time `latest`, where the units that they have are too old for float32."""
    for i in range(rows.size):
        row = rows[i]
        if row < 0:
            continue
        age = (latest - base[row]) / half_life_ms
        if base[row] > -(2**61) and age < _RESCALE_HALF_LIVES:
            continue
        decay = np.float32(2.0**-age) if base[row] > -(2**61) else np.float32(0.0)
        base[row] = latest
        total[row] *= decay
        weight[row] *= decay
        changed[row] = ALL_CELLS


@kernel
def _add(
    row: int, item: int, amount: np.float32, neighbor: np.ndarray, weight: np.ndarray, changed: np.ndarray
) -> None:
    """Add to a pair; a new neighbour takes the place of the weakest."""
    cell, weakest = -1, 0
    for j in range(neighbor.shape[1]):
        if neighbor[row, j] == item:
            cell = j
            break
        if weight[row, j] < weight[row, weakest]:
            weakest = j
    if cell < 0:
        cell = weakest
        neighbor[row, cell] = item
        weight[row, cell] = np.float32(0.0)
    weight[row, cell] += amount
    changed[row, cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)


@kernel
def _learn(
    item: np.ndarray,
    table_rows: np.ndarray,
    ts: np.ndarray,
    start: np.ndarray,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    history_ts: np.ndarray,
    window: int,
    backward: float,
    decay: float,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbor: np.ndarray,
    weight: np.ndarray,
    changed: np.ndarray,
) -> None:
    for i in range(item.size):
        if item[i] < 0:
            continue
        amount = 1.0
        for back in range(min(window, start[i + 1] - start[i])):
            h = start[i + 1] - 1 - back
            if history[h] >= 0 and history_table_rows[h] >= 0 and history[h] != item[i]:
                earlier, later = history_table_rows[h], table_rows[i]
                forward = np.float32(amount * 2.0 ** ((ts[i] - base[earlier]) / half_life_ms))
                backward_amount = np.float32(backward * amount * 2.0 ** ((ts[i] - base[later]) / half_life_ms))
                _add(earlier, item[i], forward, neighbor, weight, changed)
                _add(later, history[h], backward_amount, neighbor, weight, changed)
                total[earlier] += forward
                total[later] += backward_amount
            amount *= decay


@kernel
def _collect(
    begin: int,
    end: int,
    ts: int,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    depth: int,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbor: np.ndarray,
    weight: np.ndarray,
    entry_index: np.ndarray,
    add_new: bool,
    pool: np.ndarray,
    n_candidates: int,
    out: np.ndarray,
    column: int,
) -> int:
    """Add up what the history's neighbours say of each item that has a place; with `grows` new ones get one."""
    amount, recency_rank = np.float32(1.0), 0
    for back in range(min(depth, end - begin)):
        h = end - 1 - back
        row = history_table_rows[h]
        if row < 0:
            continue
        unit = np.float32(2.0 ** ((base[row] - ts) / half_life_ms))
        support = total[row] * unit + np.float32(3.0)
        share, root = unit / support, np.sqrt(support)
        for j in range(neighbor.shape[1]):
            item = neighbor[row, j]
            if item < 0:
                continue
            at = entry_index[item]
            if at < 0:
                if not add_new or at == MASKED or n_candidates >= pool.size:
                    continue
                at = n_candidates
                entry_index[item] = at
                pool[at] = item
                out[at, column : column + 3] = 0.0
                n_candidates += 1
            value = weight[row, j] * share
            if recency_rank == 0:
                out[at, column] += value
            out[at, column + 1] += amount * value
            out[at, column + 2] += value * root
        amount *= np.float32(0.8)
        recency_rank += 1
    return n_candidates


@kernel
def _retrieve(
    start: np.ndarray,
    ts: np.ndarray,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    depth: int,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbor: np.ndarray,
    weight: np.ndarray,
    entry_index: np.ndarray,
    eligible: np.ndarray,
    exclusion_start: np.ndarray,
    exclusions: np.ndarray,
    result: np.ndarray,
) -> None:
    pool = np.empty(depth * neighbor.shape[1], np.int32)
    sums = np.empty((pool.size, 3), np.float32)
    scores = np.empty(pool.size, np.float32)
    top = np.empty(result.shape[1], np.int64)
    for i in range(ts.size):
        mask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        n_candidates = _collect(
            start[i], start[i + 1], ts[i], history, history_table_rows, depth, half_life_ms,
            base, total, neighbor, weight, entry_index, True, pool, 0, sums, 0,
        )  # fmt: skip
        unmask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        n_eligible = 0
        for j in range(n_candidates):
            entry_index[pool[j]] = -1
            if eligible[pool[j]]:
                scores[n_eligible] = sums[j, 0] + sums[j, 1]
                pool[n_eligible] = pool[j]
                n_eligible += 1
        k = top_k(scores, n_eligible, top)
        for j in range(k):
            result[i, j] = pool[top[j]]
        result[i, k:] = -1


@kernel
def _write_scores(
    start: np.ndarray,
    ts: np.ndarray,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    depth: int,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbor: np.ndarray,
    weight: np.ndarray,
    entry_index: np.ndarray,
    list_start: np.ndarray,
    row: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    empty_pool = np.empty(0, np.int32)
    for i in range(ts.size):
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = m
        _collect(
            start[i], start[i + 1], ts[i], history, history_table_rows, depth, half_life_ms,
            base, total, neighbor, weight, entry_index, False, empty_pool, 0, out, column,
        )  # fmt: skip
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = -1


class CovisitationRetriever:
    """For each item the items met near it. Only items that are in a history or were acted on have a row."""

    names: tuple[str, ...] = ("covisit_last", "covisit_recent", "covisit_wide")
    scales: tuple[float, ...] = (100.0, 100.0, 10.0)

    def __init__(self, items: ItemTable, workspace: Workspace, settings: CovisitSettings | None = None) -> None:
        self.settings = settings or CovisitSettings()
        self._items, self._workspace = items, workspace
        self._half_life_ms = 1000.0 * self.settings.half_life
        # `base` is the time as of which the row's weights are written: so they fade without being touched.
        narrow = {"base": Column("int64", fill=NO_TIME), "total": Column("float32")}
        wide = {"neighbor": Column("int32", fill=-1), "weight": Column("float32")}
        self.table = CellTable(narrow, wide, self.settings.neighbors)

    def learn(self, actions: Actions) -> None:
        if not len(actions):
            return
        users, table = actions.users, self.table
        table_rows = table.add_keys(self._items.keys[actions.row])
        history_table_rows = table.add_keys(keys_from_rows(self._items, users.history))
        latest = int(actions.ts.max())
        changed_rows = np.unique(np.concatenate([table_rows, history_table_rows]))
        _rescale(
            changed_rows, latest, self._half_life_ms, table["base"], table["total"], table["weight"], table["changed"]
        )
        setting = self.settings
        _learn(
            actions.row, table_rows, actions.ts, users.queries.history_start, users.history, history_table_rows,
            users.queries.history_ts, setting.window, setting.backward, setting.decay, self._half_life_ms,
            table["base"], table["total"], table["neighbor"], table["weight"], table["changed"],
        )  # fmt: skip

    def retrieve(self, users: UserQueries, k: int, eligible: np.ndarray, exclusions: Exclusions) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more."""
        result = np.empty((users.queries.ts.size, k), np.int32)
        _retrieve(
            *self._kernel_args(users), self._workspace.entry_index, eligible, exclusions.start, exclusions.row, result
        )
        return result

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        """Add the three scores into columns of `out` that hold zeros."""
        _write_scores(*self._kernel_args(users), self._workspace.entry_index, lists.start, lists.row, out, column)

    def _kernel_args(self, users: UserQueries) -> tuple[np.ndarray, ...]:
        queries, table, setting = users.queries, self.table, self.settings
        return (
            queries.history_start, queries.ts, users.history, table.lookup(queries.history_item), setting.depth,
            self._half_life_ms, table["base"], table["total"], table["neighbor"], table["weight"],
        )  # type: ignore[return-value]  # fmt: skip

    def state(self) -> State:
        return self.table.state()

    def restore(self, state: State) -> None:
        self.table.restore(state)

    def changes(self) -> State:
        return self.table.changes()

    def apply(self, changes: State) -> None:
        self.table.apply(changes)
