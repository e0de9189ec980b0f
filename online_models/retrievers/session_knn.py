"""Items of the sessions most like this one (VMIS-kNN: Kersbergen et al., SIGMOD 2022).

Of each item the latest sessions that hold it are known, so a question reads a few hundred sessions and no more.
"""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import MASKED, Exclusions, mask, top_k, unmask
from online_models.state.cell_table import CellTable
from online_models.state.item_table import Actions, ItemLists, ItemTable, UserQueries
from online_models.state.tables import Column, State, prefix_states, substate
from online_models.state.workspace import Workspace
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class SessionSettings:
    slots: int = 1 << 17  # sessions remembered; one that falls on another's slot takes it
    length: int = 12  # items remembered of a session, the latest
    per_item: int = 128  # latest sessions known of an item, a multiple of 64
    depth: int = 8  # latest history items that are compared
    past_session_weight: float = 0.5  # weight of a history item that is not of the running session

    def __post_init__(self) -> None:
        if self.slots < 2 or self.slots & (self.slots - 1):
            raise ValueError(f"slots must be a power of two, got {self.slots}")


@kernel
def _hash_session(user: np.uint64, session_start: int, slots: int) -> tuple[np.int64, np.uint64]:
    key = (user ^ np.uint64(session_start)) * np.uint64(0x9E3779B97F4A7C15)
    key ^= key >> np.uint64(29)
    key = key * np.uint64(0xBF58476D1CE4E5B9) | np.uint64(1)
    return np.int64(key >> np.uint64(32)) & (slots - 1), key


@kernel
def _learn(
    item: np.ndarray,
    table_rows: np.ndarray,
    user: np.ndarray,
    session_start: np.ndarray,
    key: np.ndarray,
    length: np.ndarray,
    content: np.ndarray,
    changed_slots: np.ndarray,
    session_counts: np.ndarray,
    session: np.ndarray,
    changed: np.ndarray,
) -> None:
    for i in range(item.size):
        if item[i] < 0:
            continue
        slot, session_key = _hash_session(user[i], session_start[i], key.size)
        changed_slots[slot] = True
        if key[slot] != session_key:
            key[slot], length[slot] = session_key, 0
            content[slot] = -1
        is_known = False
        for j in range(content.shape[1]):
            is_known |= content[slot, j] == item[i]
        if is_known:
            continue
        content[slot, length[slot] % content.shape[1]] = item[i]
        length[slot] += 1
        cell = session_counts[table_rows[i]] % session.shape[1]
        session[table_rows[i], cell] = slot
        changed[table_rows[i], cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
        session_counts[table_rows[i]] += 1


@kernel
def _collect(
    begin: int,
    end: int,
    session_start: int,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    history_ts: np.ndarray,
    depth: int,
    past_session_weight: float,
    length: np.ndarray,
    content: np.ndarray,
    session_counts: np.ndarray,
    session: np.ndarray,
    neighbor_by_slot: np.ndarray,
    similarity: np.ndarray,
    neighbors: np.ndarray,
    entry_index: np.ndarray,
    add_new: bool,
    pool: np.ndarray,
    out: np.ndarray,
    column: int,
) -> int:
    """Score items by the sessions that share items with this one; `seen` maps slots to neighbours and is left at -1."""
    n_neighbors, recency_rank, n_candidates = 0, 0, 0
    for back in range(min(depth, end - begin)):
        h = end - 1 - back
        row = history_table_rows[h]
        if row < 0:
            continue
        weight = np.float32(1.0 - back / depth)
        if history_ts[h] < session_start:
            weight *= np.float32(past_session_weight)
        for j in range(min(session_counts[row], session.shape[1])):
            slot = session[row, j]
            at = -1
            for p in range(content.shape[1]):
                if content[slot, p] == history[h]:
                    at = p
                    break
            if at < 0:
                continue  # another session has taken the slot since
            neighbor = neighbor_by_slot[slot]
            if neighbor < 0:
                if n_neighbors >= neighbors.size:
                    continue
                neighbor = n_neighbors
                neighbor_by_slot[slot] = neighbor
                neighbors[neighbor] = slot
                similarity[neighbor, 0] = similarity[neighbor, 1] = 0.0
                n_neighbors += 1
            similarity[neighbor, 0] += weight
            if recency_rank == 0:
                similarity[neighbor, 1] = 1.0
        recency_rank += 1
    for neighbor in range(n_neighbors):
        slot = neighbors[neighbor]
        neighbor_by_slot[slot] = -1
        for p in range(min(length[slot], content.shape[1])):
            item = content[slot, p]
            at = entry_index[item]
            if at < 0:
                if not add_new or at == MASKED or n_candidates >= pool.size:
                    continue
                at = n_candidates
                entry_index[item] = at
                pool[at] = item
                out[at, column : column + 2] = 0.0
                n_candidates += 1
            out[at, column] += similarity[neighbor, 0]
            out[at, column + 1] += similarity[neighbor, 1]
    return n_candidates


@kernel
def _retrieve(
    start: np.ndarray,
    session_start: np.ndarray,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    history_ts: np.ndarray,
    depth: int,
    past_session_weight: float,
    length: np.ndarray,
    content: np.ndarray,
    session_counts: np.ndarray,
    session: np.ndarray,
    neighbor_by_slot: np.ndarray,
    entry_index: np.ndarray,
    total_counts: np.ndarray,
    eligible: np.ndarray,
    exclusion_start: np.ndarray,
    exclusions: np.ndarray,
    result: np.ndarray,
) -> None:
    neighbors = np.empty(depth * session.shape[1], np.int64)
    similarity = np.empty((neighbors.size, 2), np.float32)
    pool = np.empty(8192, np.int32)
    sums = np.empty((pool.size, 2), np.float32)
    scores = np.empty(pool.size, np.float32)
    top = np.empty(result.shape[1], np.int64)
    for i in range(start.size - 1):
        mask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        n_candidates = _collect(
            start[i], start[i + 1], session_start[i], history, history_table_rows, history_ts, depth, past_session_weight,
            length, content, session_counts, session, neighbor_by_slot, similarity, neighbors, entry_index, True, pool, sums, 0,
        )  # fmt: skip
        unmask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        n_eligible = 0
        for j in range(n_candidates):
            entry_index[pool[j]] = -1
            if eligible[pool[j]]:
                scores[n_eligible] = (sums[j, 0] + sums[j, 1]) / np.sqrt(total_counts[pool[j], 1:].sum() + 1.0)
                pool[n_eligible] = pool[j]
                n_eligible += 1
        k = top_k(scores, n_eligible, top)
        for j in range(k):
            result[i, j] = pool[top[j]]
        result[i, k:] = -1


@kernel
def _write_scores(
    start: np.ndarray,
    session_start: np.ndarray,
    history: np.ndarray,
    history_table_rows: np.ndarray,
    history_ts: np.ndarray,
    depth: int,
    past_session_weight: float,
    length: np.ndarray,
    content: np.ndarray,
    session_counts: np.ndarray,
    session: np.ndarray,
    neighbor_by_slot: np.ndarray,
    entry_index: np.ndarray,
    list_start: np.ndarray,
    row: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    neighbors = np.empty(depth * session.shape[1], np.int64)
    similarity = np.empty((neighbors.size, 2), np.float32)
    empty_pool = np.empty(0, np.int32)
    for i in range(start.size - 1):
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = m
        _collect(
            start[i], start[i + 1], session_start[i], history, history_table_rows, history_ts, depth, past_session_weight,
            length, content, session_counts, session, neighbor_by_slot, similarity, neighbors, entry_index, False, empty_pool, out, column,
        )  # fmt: skip
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = -1


class SessionKNN:
    """A store of sessions by slot, and of each item the slots of its latest sessions."""

    names: tuple[str, ...] = ("sessions_all", "sessions_last")
    scales: tuple[float, ...] = (1.0, 1.0)

    def __init__(self, items: ItemTable, workspace: Workspace, settings: SessionSettings | None = None) -> None:
        self.settings = settings or SessionSettings()
        self._items, self._workspace = items, workspace
        slots = self.settings.slots
        self._store: State = {
            "key": np.zeros(slots, np.uint64),
            "length": np.zeros(slots, np.int32),
            "content": np.full((slots, self.settings.length), -1, np.int32),
        }
        self._changed_slots = np.zeros(slots, np.bool_)
        self._neighbor_by_slot = np.full(slots, -1, np.int32)  # scratch of kernels
        self.table = CellTable({"session_count": Column("int32")}, {"session": Column("int32")}, self.settings.per_item)

    def learn(self, actions: Actions) -> None:
        if not len(actions):
            return
        table_rows = self.table.add_keys(self._items.keys[actions.row])
        queries, store = actions.users.queries, self._store
        _learn(
            actions.row, table_rows, queries.user, queries.session_start, store["key"], store["length"],
            store["content"], self._changed_slots, self.table["session_count"], self.table["session"], self.table["changed"],
        )  # fmt: skip

    def retrieve(self, users: UserQueries, k: int, eligible: np.ndarray, exclusions: Exclusions) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more."""
        result = np.empty((users.queries.ts.size, k), np.int32)
        _retrieve(
            *self._kernel_args(users),
            self._items.counters["total_counts"],
            eligible,
            exclusions.start,
            exclusions.row,
            result,
        )
        return result

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        """Add the two scores into columns of `out` that hold zeros."""
        _write_scores(*self._kernel_args(users), lists.start, lists.row, out, column)

    def _kernel_args(self, users: UserQueries) -> tuple[np.ndarray, ...]:
        queries, store, setting = users.queries, self._store, self.settings
        rows, table_rows = users.history, self.table.lookup(queries.history_item)
        return (
            queries.history_start, queries.session_start, rows, table_rows, queries.history_ts, setting.depth,
            setting.past_session_weight, store["length"], store["content"], self.table["session_count"], self.table["session"],
            self._neighbor_by_slot, self._workspace.entry_index,
        )  # type: ignore[return-value]  # fmt: skip

    def state(self) -> State:
        return prefix_states({"store": self._store, "items": self.table.state()})

    def restore(self, state: State) -> None:
        self._store = {name: array.copy() for name, array in substate(state, "store").items()}
        self._changed_slots[:] = False
        self.table.restore(substate(state, "items"))

    def changes(self) -> State:
        slots = np.flatnonzero(self._changed_slots)
        self._changed_slots[slots] = False
        store = {name: array[slots] for name, array in self._store.items()} | {"slots": slots}
        return prefix_states({"store": store, "items": self.table.changes()})

    def apply(self, changes: State) -> None:
        store = substate(changes, "store")
        for name, array in self._store.items():
            array[store["slots"]] = store[name]
        self.table.apply(substate(changes, "items"))
