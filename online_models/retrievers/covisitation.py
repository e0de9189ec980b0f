"""Items met after and before one another: decayed counts of pairs, the top few neighbours kept for each item."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import HIDDEN, Hidden, best, hide, show
from online_models.state.cell_table import ALL, CellTable
from online_models.state.item_table import NO_TIME, Actions, Items, People, Slates, keys_of_rows
from online_models.state.tables import Column, State
from online_models.state.workspace import Scratch
from stream.jit import kernel

_RESCALE_AFTER = 40.0  # half-lives until a row's unit is renewed: float32 weights stay far from overflow


@dataclass(frozen=True, slots=True)
class CovisitSettings:
    neighbours: int = 64  # kept per item, a multiple of 64
    window: int = 10  # earlier items that an action is paired with
    backward: float = 0.5  # weight of the pair later → earlier; earlier → later weighs 1
    fade: float = 0.9  # weight of a pair per item between the two
    half_life: float = 30 * 86_400.0  # seconds
    depth: int = 32  # latest history items that are asked for their neighbours

    def __post_init__(self) -> None:
        if self.half_life <= 0:
            raise ValueError(f"half_life must be a positive number of seconds, got {self.half_life}")


@kernel
def _renew(rows: np.ndarray, latest: int, half_life_ms: float, base: np.ndarray, total: np.ndarray,
           weight: np.ndarray, changed: np.ndarray) -> None:  # fmt: skip
    """Express rows in the unit of the time `latest`, where the units that they have are too old for float32."""
    for i in range(rows.size):
        row = rows[i]
        if row < 0:
            continue
        age = (latest - base[row]) / half_life_ms
        if base[row] > -(2**61) and age < _RESCALE_AFTER:
            continue
        kept = np.float32(2.0**-age) if base[row] > -(2**61) else np.float32(0.0)
        base[row] = latest
        total[row] *= kept
        weight[row] *= kept
        changed[row] = ALL


@kernel
def _add(
    row: int, item: int, amount: np.float32, neighbour: np.ndarray, weight: np.ndarray, changed: np.ndarray
) -> None:
    """Add to a pair; a new neighbour takes the place of the weakest."""
    cell, weakest = -1, 0
    for j in range(neighbour.shape[1]):
        if neighbour[row, j] == item:
            cell = j
            break
        if weight[row, j] < weight[row, weakest]:
            weakest = j
    if cell < 0:
        cell = weakest
        neighbour[row, cell] = item
        weight[row, cell] = np.float32(0.0)
    weight[row, cell] += amount
    changed[row, cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)


@kernel
def _learn(
    item: np.ndarray,
    own: np.ndarray,
    ts: np.ndarray,
    start: np.ndarray,
    history: np.ndarray,
    history_own: np.ndarray,
    history_ts: np.ndarray,
    window: int,
    backward: float,
    fade: float,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbour: np.ndarray,
    weight: np.ndarray,
    changed: np.ndarray,
) -> None:
    for i in range(item.size):
        if item[i] < 0:
            continue
        amount = 1.0
        for back in range(min(window, start[i + 1] - start[i])):
            h = start[i + 1] - 1 - back
            if history[h] >= 0 and history_own[h] >= 0 and history[h] != item[i]:
                there, here = history_own[h], own[i]
                forward = np.float32(amount * 2.0 ** ((ts[i] - base[there]) / half_life_ms))
                behind = np.float32(backward * amount * 2.0 ** ((ts[i] - base[here]) / half_life_ms))
                _add(there, item[i], forward, neighbour, weight, changed)
                _add(here, history[h], behind, neighbour, weight, changed)
                total[there] += forward
                total[here] += behind
            amount *= fade


@kernel
def _collect(
    begin: int,
    end: int,
    ts: int,
    history: np.ndarray,
    history_own: np.ndarray,
    depth: int,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbour: np.ndarray,
    weight: np.ndarray,
    place: np.ndarray,
    grows: bool,
    pool: np.ndarray,
    found: int,
    out: np.ndarray,
    column: int,
) -> int:
    """Add up what the history's neighbours say of each item that has a place; with `grows` new ones get one."""
    amount, asked = np.float32(1.0), 0
    for back in range(min(depth, end - begin)):
        h = end - 1 - back
        row = history_own[h]
        if row < 0:
            continue
        unit = np.float32(2.0 ** ((base[row] - ts) / half_life_ms))
        support = total[row] * unit + np.float32(3.0)
        share, root = unit / support, np.sqrt(support)
        for j in range(neighbour.shape[1]):
            item = neighbour[row, j]
            if item < 0:
                continue
            at = place[item]
            if at < 0:
                if not grows or at == HIDDEN or found >= pool.size:
                    continue
                at = found
                place[item] = at
                pool[at] = item
                out[at, column : column + 3] = 0.0
                found += 1
            value = weight[row, j] * share
            if asked == 0:
                out[at, column] += value
            out[at, column + 1] += amount * value
            out[at, column + 2] += value * root
        amount *= np.float32(0.8)
        asked += 1
    return found


@kernel
def _candidates(
    start: np.ndarray,
    ts: np.ndarray,
    history: np.ndarray,
    history_own: np.ndarray,
    depth: int,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbour: np.ndarray,
    weight: np.ndarray,
    place: np.ndarray,
    eligible: np.ndarray,
    hidden_start: np.ndarray,
    hidden: np.ndarray,
    result: np.ndarray,
) -> None:
    pool = np.empty(depth * neighbour.shape[1], np.int32)
    sums = np.empty((pool.size, 3), np.float32)
    scores = np.empty(pool.size, np.float32)
    chosen = np.empty(result.shape[1], np.int64)
    for i in range(ts.size):
        hide(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        found = _collect(
            start[i], start[i + 1], ts[i], history, history_own, depth, half_life_ms,
            base, total, neighbour, weight, place, True, pool, 0, sums, 0,
        )  # fmt: skip
        show(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        kept = 0
        for j in range(found):
            place[pool[j]] = -1
            if eligible[pool[j]]:
                scores[kept] = sums[j, 0] + sums[j, 1]
                pool[kept] = pool[j]
                kept += 1
        k = best(scores, kept, chosen)
        for j in range(k):
            result[i, j] = pool[chosen[j]]
        result[i, k:] = -1


@kernel
def _features(
    start: np.ndarray,
    ts: np.ndarray,
    history: np.ndarray,
    history_own: np.ndarray,
    depth: int,
    half_life_ms: float,
    base: np.ndarray,
    total: np.ndarray,
    neighbour: np.ndarray,
    weight: np.ndarray,
    place: np.ndarray,
    list_start: np.ndarray,
    row: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    none = np.empty(0, np.int32)
    for i in range(ts.size):
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                place[row[m]] = m
        _collect(
            start[i], start[i + 1], ts[i], history, history_own, depth, half_life_ms,
            base, total, neighbour, weight, place, False, none, 0, out, column,
        )  # fmt: skip
        for m in range(list_start[i], list_start[i + 1]):
            if row[m] >= 0:
                place[row[m]] = -1


class Covisits:
    """For each item the items met near it. Only items that are in a history or were acted on have a row."""

    names: tuple[str, ...] = ("covisit_last", "covisit_recent", "covisit_wide")
    scales: tuple[float, ...] = (100.0, 100.0, 10.0)

    def __init__(self, items: Items, scratch: Scratch, settings: CovisitSettings | None = None) -> None:
        self.settings = settings or CovisitSettings()
        self._items, self._scratch = items, scratch
        self._half_life_ms = 1000.0 * self.settings.half_life
        # `base` is the time as of which the row's weights are written: so they fade without being touched.
        narrow = {"base": Column("int64", fill=NO_TIME), "total": Column("float32")}
        wide = {"neighbour": Column("int32", fill=-1), "weight": Column("float32")}
        self.table = CellTable(narrow, wide, self.settings.neighbours)

    def learn(self, actions: Actions) -> None:
        if not len(actions):
            return
        people, table = actions.people, self.table
        own = table.admit(self._items.keys[actions.row])
        history_own = table.admit(keys_of_rows(self._items, people.history))
        latest = int(actions.ts.max())
        touched = np.unique(np.concatenate([own, history_own]))
        _renew(touched, latest, self._half_life_ms, table["base"], table["total"], table["weight"], table["changed"])
        setting = self.settings
        _learn(
            actions.row, own, actions.ts, people.questions.history_start, people.history, history_own,
            people.questions.history_ts, setting.window, setting.backward, setting.fade, self._half_life_ms,
            table["base"], table["total"], table["neighbour"], table["weight"], table["changed"],
        )  # fmt: skip

    def candidates(self, people: People, k: int, eligible: np.ndarray, hidden: Hidden) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more."""
        result = np.empty((people.questions.ts.size, k), np.int32)
        _candidates(*self._asked(people), self._scratch.place, eligible, hidden.start, hidden.row, result)
        return result

    def features(self, people: People, slates: Slates, out: np.ndarray, column: int) -> None:
        """Add the three scores into columns of `out` that hold zeros."""
        _features(*self._asked(people), self._scratch.place, slates.start, slates.row, out, column)

    def _asked(self, people: People) -> tuple[np.ndarray, ...]:
        questions, table, setting = people.questions, self.table, self.settings
        return (
            questions.history_start, questions.ts, people.history, table.find(questions.history_item), setting.depth,
            self._half_life_ms, table["base"], table["total"], table["neighbour"], table["weight"],
        )  # type: ignore[return-value]  # fmt: skip

    def state(self) -> State:
        return self.table.state()

    def restore(self, state: State) -> None:
        self.table.restore(state)

    def changes(self) -> State:
        return self.table.changes()

    def apply(self, changes: State) -> None:
        self.table.apply(changes)
