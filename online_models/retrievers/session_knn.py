"""Items of the sessions most like this one (VMIS-kNN: Kersbergen et al., SIGMOD 2022).

Of each item the latest sessions that hold it are known, so a question reads a few hundred sessions and no more.
"""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import HIDDEN, Hidden, best, hide, show
from online_models.state.cell_table import CellTable
from online_models.state.item_table import Actions, Items, People, Slates
from online_models.state.tables import Column, State, joined, part_of
from online_models.state.workspace import Scratch
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class SessionSettings:
    slots: int = 1 << 17  # sessions remembered; one that falls on another's slot takes it
    length: int = 12  # items remembered of a session, the latest
    per_item: int = 128  # latest sessions known of an item, a multiple of 64
    depth: int = 8  # latest history items that are compared
    elsewhere: float = 0.5  # weight of a history item that is not of the running session

    def __post_init__(self) -> None:
        if self.slots < 2 or self.slots & (self.slots - 1):
            raise ValueError(f"slots must be a power of two, got {self.slots}")


@kernel
def _slot_of(user: np.uint64, session_start: int, slots: int) -> tuple[np.int64, np.uint64]:
    key = (user ^ np.uint64(session_start)) * np.uint64(0x9E3779B97F4A7C15)
    key ^= key >> np.uint64(29)
    key = key * np.uint64(0xBF58476D1CE4E5B9) | np.uint64(1)
    return np.int64(key >> np.uint64(32)) & (slots - 1), key


@kernel
def _learn(
    item: np.ndarray,
    own: np.ndarray,
    user: np.ndarray,
    session_start: np.ndarray,
    key: np.ndarray,
    length: np.ndarray,
    content: np.ndarray,
    touched: np.ndarray,
    used: np.ndarray,
    session: np.ndarray,
    changed: np.ndarray,
) -> None:
    for i in range(item.size):
        if item[i] < 0:
            continue
        slot, name = _slot_of(user[i], session_start[i], key.size)
        touched[slot] = True
        if key[slot] != name:
            key[slot], length[slot] = name, 0
            content[slot] = -1
        known = False
        for j in range(content.shape[1]):
            known |= content[slot, j] == item[i]
        if known:
            continue
        content[slot, length[slot] % content.shape[1]] = item[i]
        length[slot] += 1
        cell = used[own[i]] % session.shape[1]
        session[own[i], cell] = slot
        changed[own[i], cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
        used[own[i]] += 1


@kernel
def _collect(
    begin: int,
    end: int,
    session_start: int,
    history: np.ndarray,
    history_own: np.ndarray,
    history_ts: np.ndarray,
    depth: int,
    elsewhere: float,
    length: np.ndarray,
    content: np.ndarray,
    used: np.ndarray,
    session: np.ndarray,
    seen: np.ndarray,
    likeness: np.ndarray,
    neighbours: np.ndarray,
    place: np.ndarray,
    grows: bool,
    pool: np.ndarray,
    out: np.ndarray,
    column: int,
) -> int:
    """Score items by the sessions that share items with this one; `seen` maps slots to neighbours and is left at -1."""
    count, asked, found = 0, 0, 0
    for back in range(min(depth, end - begin)):
        h = end - 1 - back
        row = history_own[h]
        if row < 0:
            continue
        weight = np.float32(1.0 - back / depth)
        if history_ts[h] < session_start:
            weight *= np.float32(elsewhere)
        for j in range(min(used[row], session.shape[1])):
            slot = session[row, j]
            at = -1
            for p in range(content.shape[1]):
                if content[slot, p] == history[h]:
                    at = p
                    break
            if at < 0:
                continue  # another session has taken the slot since
            near = seen[slot]
            if near < 0:
                if count >= neighbours.size:
                    continue
                near = count
                seen[slot] = near
                neighbours[near] = slot
                likeness[near, 0] = likeness[near, 1] = 0.0
                count += 1
            likeness[near, 0] += weight
            if asked == 0:
                likeness[near, 1] = 1.0
        asked += 1
    for near in range(count):
        slot = neighbours[near]
        seen[slot] = -1
        for p in range(min(length[slot], content.shape[1])):
            item = content[slot, p]
            at = place[item]
            if at < 0:
                if not grows or at == HIDDEN or found >= pool.size:
                    continue
                at = found
                place[item] = at
                pool[at] = item
                out[at, column : column + 2] = 0.0
                found += 1
            out[at, column] += likeness[near, 0]
            out[at, column + 1] += likeness[near, 1]
    return found


@kernel
def _candidates(
    start: np.ndarray,
    session_start: np.ndarray,
    history: np.ndarray,
    history_own: np.ndarray,
    history_ts: np.ndarray,
    depth: int,
    elsewhere: float,
    length: np.ndarray,
    content: np.ndarray,
    used: np.ndarray,
    session: np.ndarray,
    seen: np.ndarray,
    place: np.ndarray,
    ever: np.ndarray,
    eligible: np.ndarray,
    hidden_start: np.ndarray,
    hidden: np.ndarray,
    result: np.ndarray,
) -> None:
    neighbours = np.empty(depth * session.shape[1], np.int64)
    likeness = np.empty((neighbours.size, 2), np.float32)
    pool = np.empty(8192, np.int32)
    sums = np.empty((pool.size, 2), np.float32)
    scores = np.empty(pool.size, np.float32)
    chosen = np.empty(result.shape[1], np.int64)
    for i in range(start.size - 1):
        hide(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        found = _collect(
            start[i], start[i + 1], session_start[i], history, history_own, history_ts, depth, elsewhere,
            length, content, used, session, seen, likeness, neighbours, place, True, pool, sums, 0,
        )  # fmt: skip
        show(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        kept = 0
        for j in range(found):
            place[pool[j]] = -1
            if eligible[pool[j]]:
                scores[kept] = (sums[j, 0] + sums[j, 1]) / np.sqrt(ever[pool[j], 1:].sum() + 1.0)
                pool[kept] = pool[j]
                kept += 1
        k = best(scores, kept, chosen)
        for j in range(k):
            result[i, j] = pool[chosen[j]]
        result[i, k:] = -1


@kernel
def _features(
    start: np.ndarray,
    session_start: np.ndarray,
    history: np.ndarray,
    history_own: np.ndarray,
    history_ts: np.ndarray,
    depth: int,
    elsewhere: float,
    length: np.ndarray,
    content: np.ndarray,
    used: np.ndarray,
    session: np.ndarray,
    seen: np.ndarray,
    place: np.ndarray,
    list_start: np.ndarray,
    row: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    neighbours = np.empty(depth * session.shape[1], np.int64)
    likeness = np.empty((neighbours.size, 2), np.float32)
    none = np.empty(0, np.int32)
    for i in range(start.size - 1):
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                place[row[m]] = m
        _collect(
            start[i], start[i + 1], session_start[i], history, history_own, history_ts, depth, elsewhere,
            length, content, used, session, seen, likeness, neighbours, place, False, none, out, column,
        )  # fmt: skip
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                place[row[m]] = -1


class Sessions:
    """A store of sessions by slot, and of each item the slots of its latest sessions."""

    names: tuple[str, ...] = ("sessions_all", "sessions_last")
    scales: tuple[float, ...] = (1.0, 1.0)

    def __init__(self, items: Items, scratch: Scratch, settings: SessionSettings | None = None) -> None:
        self.settings = settings or SessionSettings()
        self._items, self._scratch = items, scratch
        slots = self.settings.slots
        self._store: State = {
            "key": np.zeros(slots, np.uint64),
            "length": np.zeros(slots, np.int32),
            "content": np.full((slots, self.settings.length), -1, np.int32),
        }
        self._touched = np.zeros(slots, np.bool_)
        self._seen = np.full(slots, -1, np.int32)  # scratch of kernels
        self.table = CellTable({"used": Column("int32")}, {"session": Column("int32")}, self.settings.per_item)

    def learn(self, actions: Actions) -> None:
        if not len(actions):
            return
        own = self.table.admit(self._items.keys[actions.row])
        questions, store = actions.people.questions, self._store
        _learn(
            actions.row, own, questions.user, questions.session_start, store["key"], store["length"],
            store["content"], self._touched, self.table["used"], self.table["session"], self.table["changed"],
        )  # fmt: skip

    def candidates(self, people: People, k: int, eligible: np.ndarray, hidden: Hidden) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more."""
        result = np.empty((people.questions.ts.size, k), np.int32)
        _candidates(*self._asked(people), self._items.counters["ever"], eligible, hidden.start, hidden.row, result)
        return result

    def features(self, people: People, slates: Slates, out: np.ndarray, column: int) -> None:
        """Add the two scores into columns of `out` that hold zeros."""
        _features(*self._asked(people), slates.start, slates.row, out, column)

    def _asked(self, people: People) -> tuple[np.ndarray, ...]:
        questions, store, setting = people.questions, self._store, self.settings
        rows, own = people.history, self.table.find(questions.history_item)
        return (
            questions.history_start, questions.session_start, rows, own, questions.history_ts, setting.depth,
            setting.elsewhere, store["length"], store["content"], self.table["used"], self.table["session"],
            self._seen, self._scratch.place,
        )  # type: ignore[return-value]  # fmt: skip

    def state(self) -> State:
        return joined({"store": self._store, "items": self.table.state()})

    def restore(self, state: State) -> None:
        self._store = {name: array.copy() for name, array in part_of(state, "store").items()}
        self._touched[:] = False
        self.table.restore(part_of(state, "items"))

    def changes(self) -> State:
        slots = np.flatnonzero(self._touched)
        self._touched[slots] = False
        store = {name: array[slots] for name, array in self._store.items()} | {"slots": slots}
        return joined({"store": store, "items": self.table.changes()})

    def apply(self, changes: State) -> None:
        store = part_of(changes, "store")
        for name, array in self._store.items():
            array[store["slots"]] = store[name]
        self.table.apply(part_of(changes, "items"))
