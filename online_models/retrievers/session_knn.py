"""Session k-nearest neighbors: items of the sessions most like the current one.

VMIS-kNN (Kersbergen et al., SIGMOD 2022): each item has the list of its latest sessions, so that a query reads a few
hundred sessions only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.retrievers.candidates import CandidateFilter, Channel, Exclusions, make_filter
from online_models.retrievers.history_scan import (
    SourceLists,
    Sources,
    allocate_sources,
    retrieve_from_sources,
    write_source_scores,
)
from online_models.retrievers.retriever import Retriever
from online_models.state.cell_table import CellTable
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import Actions, ItemLists, ItemTable, UserQueries
from online_models.state.tables import Column, State, prefix_states, substate
from online_models.state.workspace import Workspace
from stream.ids import GOLDEN_GAMMA
from stream.jit import as_tuple, kernel


@dataclass(frozen=True, slots=True)
class SessionSettings:
    slots: int = 1 << 17  # sessions kept; a session replaces another one on the same slot
    length: int = 12  # latest items kept of a session
    per_item: int = 128  # latest sessions kept of an item, a multiple of 64
    depth: int = 8  # latest history items that are compared
    past_session_weight: float = 0.5  # weight of a history item from before the current session
    max_candidates: int = 8192  # items of similar sessions that are ranked

    def __post_init__(self) -> None:
        if self.slots < 2 or self.slots & (self.slots - 1):
            raise ValueError(f"slots must be a power of two, got {self.slots}")
        if min(self.length, self.per_item, self.depth, self.max_candidates) < 1:
            raise ValueError(f"length, per_item, depth and max_candidates must be at least 1, got {self}")


class SessionStore(NamedTuple):
    """Sessions by slot."""

    key: np.ndarray  # (slots,) uint64, 0 = free
    length: np.ndarray  # (slots,) int32, items ever added
    content: np.ndarray  # (slots, length) int32 item rows, -1 = free
    is_changed: np.ndarray  # (slots,) bool


class ItemSessions(NamedTuple):
    """Slots of the latest sessions of each item, one table row per item with an action."""

    session_count: np.ndarray  # (rows,) int32, sessions ever added
    session: np.ndarray  # (rows, per_item) int32 slots
    changed: np.ndarray  # (rows, words) uint64, bit mask of changed cells


class SessionActions(NamedTuple):
    """Actions with the keys of their sessions."""

    item: np.ndarray  # (n,) int32
    table_row: np.ndarray  # (n,) int32, rows of `ItemSessions`
    user: np.ndarray  # (n,) uint64
    session_start: np.ndarray  # (n,) int64, ms


class SessionHistories(NamedTuple):
    """Histories of n queries: history i is the entries [start[i], start[i + 1]), oldest first."""

    session_start: np.ndarray  # (n,) int64, ms
    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (h,) int32 item rows, -1 = unknown
    table_row: np.ndarray  # (h,) int32, rows of `ItemSessions`, -1 = unknown
    ts: np.ndarray  # (h,) int64, ms


@kernel
def _hash_session(user: np.uint64, session_start: int, slots: int) -> tuple[np.int64, np.uint64]:
    """Return slot and key of a session."""
    key = (user ^ np.uint64(session_start)) * GOLDEN_GAMMA
    key ^= key >> np.uint64(29)
    key = key * np.uint64(0xBF58476D1CE4E5B9) | np.uint64(1)
    return np.int64(key >> np.uint64(32)) & (slots - 1), key


@kernel
def _holds(content: np.ndarray, slot: int, item: int) -> bool:
    is_held = False
    for p in range(content.shape[1]):
        is_held |= content[slot, p] == item
    return is_held


@kernel
def _learn(actions: SessionActions, store: SessionStore, item_sessions: ItemSessions) -> None:
    item, table_row, user, session_start = actions
    key, length, content, is_changed = store
    session_count, session, changed = item_sessions
    for i in range(item.size):
        if item[i] < 0:
            continue
        slot, session_key = _hash_session(user[i], session_start[i], key.size)
        is_changed[slot] = True
        if key[slot] != session_key:
            key[slot], length[slot] = session_key, 0
            content[slot] = -1
        if _holds(content, slot, item[i]):
            continue
        content[slot, length[slot] % content.shape[1]] = item[i]
        length[slot] += 1
        cell = session_count[table_row[i]] % session.shape[1]
        session[table_row[i], cell] = slot
        changed[table_row[i], cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
        session_count[table_row[i]] += 1


@kernel
def _remove(user: np.uint64, session_start: int, item: int, store: SessionStore) -> None:
    """Remove an item from a session."""
    key, length, content, is_changed = store
    slot, session_key = _hash_session(user, session_start, key.size)
    if key[slot] != session_key:
        return
    size = min(length[slot], content.shape[1])
    for p in range(size):
        if content[slot, p] == item:
            content[slot, p] = content[slot, size - 1]
            content[slot, size - 1] = -1
            length[slot] = size - 1
            is_changed[slot] = True
            return


@kernel
def _relearn(queries: SessionHistories, user: np.ndarray, is_removed: np.ndarray, store: SessionStore) -> None:
    """Remove items from the current sessions of users, unless another action there has them."""
    session_start, start, row, _, ts = queries
    for i in range(session_start.size):
        for h in range(start[i], start[i + 1]):
            if not is_removed[h] or row[h] < 0 or ts[h] < session_start[i]:
                continue
            is_held = False
            for other in range(start[i], start[i + 1]):
                is_other = not is_removed[other] and ts[other] >= session_start[i]
                is_held |= is_other and row[other] == row[h]
            if not is_held:
                _remove(user[i], session_start[i], row[h], store)


class SessionNeighbors(NamedTuple):
    """Tables that lead from a history to similar sessions."""

    content: np.ndarray  # (slots, length) int32 item rows, -1 = free
    weight: np.ndarray  # (slots, length) float32, all 1
    session_count: np.ndarray  # as in `ItemSessions`
    session: np.ndarray
    source_by_slot: np.ndarray  # (slots,) int32, scratch that holds -1


@kernel
def _find_sources(
    histories: SessionHistories, neighbors: SessionNeighbors, depth: int, past_session_weight: float
) -> Sources:
    """Return the sessions that share items with a query as its sources.

    Coefficient 0 is the similarity: a sum over the shared items, more for later ones. Coefficient 1 is 1 if the latest
    item is shared.
    """
    session_starts, start, history, history_table_row, history_ts = histories
    content, _, session_count, session, source_by_slot = neighbors
    max_sources = min(history.size, depth * (start.size - 1)) * session.shape[1]
    sources = allocate_sources(start.size - 1, max_sources, 2)
    source_start, slots, scale, coefficient = sources
    count = 0
    for i in range(start.size - 1):
        is_latest = True
        for back in range(min(depth, start[i + 1] - start[i])):
            h = start[i + 1] - 1 - back
            row = history_table_row[h]
            if row < 0:
                continue
            weight = np.float32(1.0 - back / depth)
            if history_ts[h] < session_starts[i]:
                weight *= np.float32(past_session_weight)
            for j in range(min(session_count[row], session.shape[1])):
                slot = session[row, j]
                if not _holds(content, slot, history[h]):
                    continue  # another session replaced this one
                source = source_by_slot[slot]
                if source < 0:
                    source = count
                    source_by_slot[slot] = source
                    slots[source], scale[source] = slot, 1.0
                    coefficient[source, 0] = coefficient[source, 1] = 0.0
                    count += 1
                coefficient[source, 0] += weight
                if is_latest:
                    coefficient[source, 1] = 1.0
            is_latest = False
        source_start[i + 1] = count
        for source in range(source_start[i], count):
            source_by_slot[slots[source]] = -1
    return sources


@kernel
def _retrieve(
    histories: SessionHistories, neighbors: SessionNeighbors, depth: int, past_session_weight: float,
    candidates: CandidateFilter, event_counts: np.ndarray, max_candidates: int, result: np.ndarray,
) -> None:  # fmt: skip
    sources = _find_sources(histories, neighbors, depth, past_session_weight)
    content, weight, _, _, _ = neighbors
    retrieve_from_sources(
        sources, SourceLists(content, weight), candidates, event_counts, max_candidates, (0, 1), result
    )


@kernel
def _write_scores(
    histories: SessionHistories, neighbors: SessionNeighbors, depth: int, past_session_weight: float,
    list_start: np.ndarray, row: np.ndarray, entry_index: np.ndarray, out: np.ndarray, column: int,
) -> None:  # fmt: skip
    sources = _find_sources(histories, neighbors, depth, past_session_weight)
    content, weight, _, _, _ = neighbors
    write_source_scores(sources, SourceLists(content, weight), list_start, row, entry_index, out, (column, column + 1))


class SessionKNN(Retriever):
    """Find items of similar sessions.

    The store keeps sessions by slot, the table the latest slots of each item.
    """

    channel = Channel.sessions
    names: tuple[str, ...] = ("sessions_all", "sessions_last")
    scales: tuple[float, ...] = (1.0, 1.0)

    def __init__(
        self, items: ItemTable, settings: SessionSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = setting = settings or SessionSettings()
        self._items, self._workspace = items, workspace or Workspace()
        self._store: State = {
            "key": np.zeros(setting.slots, np.uint64),
            "length": np.zeros(setting.slots, np.int32),
            "content": np.full((setting.slots, setting.length), -1, np.int32),
        }
        self._changed_slots = np.zeros(setting.slots, np.bool_)
        self._weights = np.broadcast_to(np.float32(1.0), (setting.slots, setting.length))
        self._source_by_slot = np.full(setting.slots, -1, np.int32)
        self.table = CellTable({"session_count": Column("int32")}, {"session": Column("int32")}, setting.per_item)

    def _store_columns(self) -> SessionStore:
        return SessionStore(self._store["key"], self._store["length"], self._store["content"], self._changed_slots)

    def _item_sessions(self) -> ItemSessions:
        return ItemSessions(self.table["session_count"], self.table["session"], self.table["changed"])

    def learn(self, actions: Actions) -> None:
        """Add each action's item to its session, and the session to the item."""
        if not len(actions):
            return
        queries, table_rows = actions.users.queries, self.table.add_keys(self._items.keys[actions.row])
        session_actions = SessionActions(actions.row, table_rows, queries.user, queries.session_start)
        _learn(session_actions, self._store_columns(), self._item_sessions())

    def relearn(self, changes: HistoryChanges) -> None:
        """Remove what users took back in their current session; past sessions stay."""
        users, queries = changes.users, changes.users.queries
        histories = SessionHistories(
            queries.session_start, queries.history_start, users.history, users.history, queries.history_ts
        )
        _relearn(
            histories,
            queries.user,
            changes.is_changed & ~np.repeat(changes.is_merge, np.diff(queries.history_start)),
            self._store_columns(),
        )

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        result = np.empty((len(users), k), np.int32)
        candidates = make_filter(self._items, self._workspace, len(users), eligible, exclusions)
        event_counts, max_candidates = self._items.counters["total_counts"], self.settings.max_candidates
        _retrieve(*self._scan_arguments(users), candidates, event_counts, max_candidates, result)
        return result

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        entry_index = self._workspace.reserve(len(self._items))
        _write_scores(*self._scan_arguments(users), lists.start, lists.row, entry_index, out, column)

    def _scan_arguments(self, users: UserQueries) -> tuple[SessionHistories, SessionNeighbors, int, float]:
        queries, table, setting = users.queries, self.table, self.settings
        table_rows = table.lookup(users.history_keys)
        histories = SessionHistories(
            queries.session_start, queries.history_start, users.history, table_rows, queries.history_ts
        )
        neighbors = SessionNeighbors(
            self._store["content"], self._weights, table["session_count"], table["session"], self._source_by_slot
        )
        return as_tuple(histories), as_tuple(neighbors), setting.depth, setting.past_session_weight

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
