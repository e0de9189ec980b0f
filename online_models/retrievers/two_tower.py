"""Two towers: a person is the recency-weighted mean of what history items lend, an item is a vector of its own.

Sampled softmax with the sampling correction of Yi et al. (RecSys 2019), row-wise Adagrad, negatives of recent actions.
"""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import Hidden
from online_models.retrievers.vector_index import TowerIndex
from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import Actions, Items, People, Slates
from online_models.state.tables import Column, State, Table, joined, part_of
from online_models.state.workspace import Scratch
from stream.jit import kernel

_WEEK = 4  # of items.HORIZONS: the popularity by which negatives are drawn
# Of `told`: the greatest gradient norm of a row, squares of all, rows moved, how far in squares, rows left alone.
NORM, SQUARES, MOVED, MOVES, SKIPPED = range(5)


@dataclass(frozen=True, slots=True)
class TowerReport:
    """How one call of `learn` moved the rows of both tables."""

    gradient_norm: float = 0.0  # greatest, before clipping
    moved: int = 0  # rows, as often as they were
    usual_gradient: float = 0.0  # norm before clipping, root mean square over moves
    update_norm: float = 0.0  # how far a row was moved, root mean square
    skipped: int = 0  # moves left out because a gradient was not finite


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    size: int = 64
    rate: float = 0.1  # of Adagrad
    negatives: int = 16  # per action
    recent: int = 8192  # actions that negatives are drawn from
    depth: int = 16  # latest history items
    fade: float = 0.85  # weight of a history item against the next newer one
    clip: float = 5.0  # largest norm of a row's gradient
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 512:
            raise ValueError(f"size must be 1 to 512, got {self.size}")
        if min(self.rate, self.clip, self.fade) <= 0 or min(self.negatives, self.recent, self.depth) < 1:
            raise ValueError(f"rate, clip, fade, negatives, recent and depth must be positive, got {self}")


@kernel
def _mix(x: np.uint64) -> np.uint64:
    """splitmix64: a hash that serves as a generator, so that a counter is all the state there is."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _start(keys: np.ndarray, seed: int, vectors: np.ndarray) -> None:
    """First vectors of fresh rows, from their keys alone: uniform, of variance 1 / (10 size)."""
    spread = np.float32(np.sqrt(1.2 / vectors.shape[1]))
    for i in range(keys.size):
        for j in range(vectors.shape[1]):
            draw = _mix(keys[i] ^ _mix(np.uint64(seed * 1024 + j + 1))) >> np.uint64(40)
            vectors[i, j] = (np.float32(draw) / np.float32(16777216.0) - np.float32(0.5)) * spread


@kernel
def _person(
    begin: int, end: int, history: np.ndarray, depth: int, fade: np.float32, lends: np.ndarray, user: np.ndarray
) -> np.float32:
    """The person's vector; returns the sum of weights, 0 where the history says nothing."""
    user[:] = np.float32(0.0)
    weight, total = np.float32(1.0), np.float32(0.0)
    for back in range(min(depth, end - begin)):
        row = history[end - 1 - back]
        if row >= 0:
            for j in range(user.size):
                user[j] += weight * lends[row, j]
            total += weight
        weight *= fade
    if total > 0.0:
        user /= total
    return total


@kernel
def _step(row: int, gradient: np.ndarray, scale: np.float32, rate: np.float32, clip: np.float32,
          vectors: np.ndarray, squares: np.ndarray, told: np.ndarray) -> None:  # fmt: skip
    """Row-wise Adagrad on one row, its gradient clipped by norm; one that is not finite changes nothing."""
    square = np.float32(0.0)
    for j in range(gradient.size):
        square += gradient[j] * gradient[j]
    norm = np.sqrt(square) * abs(scale)
    if not np.isfinite(norm):
        told[SKIPPED] += 1
        return
    if norm == 0.0:
        return
    told[NORM] = max(told[NORM], norm)
    told[SQUARES] += norm * norm
    scale *= min(np.float32(1.0), clip / norm)
    squares[row] += scale * scale * square / np.float32(gradient.size)
    step = rate * scale / np.sqrt(squares[row] + np.float32(1e-6))
    for j in range(gradient.size):
        vectors[row, j] -= step * gradient[j]
    told[MOVED] += 1
    told[MOVES] += step * step * square


@kernel
def _learn(
    item: np.ndarray,
    start: np.ndarray,
    history: np.ndarray,
    counts: np.ndarray,
    depth: int,
    fade: np.float32,
    negatives: int,
    rate: np.float32,
    clip: np.float32,
    lends: np.ndarray,
    lends_square: np.ndarray,
    vector: np.ndarray,
    vector_square: np.ndarray,
    recent: np.ndarray,
    counters: np.ndarray,
    touched: np.ndarray,
    told: np.ndarray,
) -> None:
    """`counters`: actions put into `recent`, draws made. `touched` collects the rows that changed, by their number."""
    size = vector.shape[1]
    user, g_user = np.empty(size, np.float32), np.empty(size, np.float32)
    rows = np.empty(negatives + 1, np.int64)
    p = np.empty(negatives + 1, np.float32)
    for i in range(item.size):
        if item[i] < 0:
            continue
        filled = min(counters[0], recent.size)
        total = _person(start[i], start[i + 1], history, depth, fade, lends, user)
        if filled > 64 and total > 0.0:
            rows[0] = item[i]
            top = np.float32(-1e30)
            for n in range(negatives + 1):
                if n:
                    counters[1] += 1
                    rows[n] = recent[np.int64(_mix(np.uint64(counters[1])) % np.uint64(filled))]
                s = np.float32(0.0)
                for j in range(size):
                    s += user[j] * vector[rows[n], j]
                p[n] = s - np.log(np.float32(1.0) + counts[rows[n], VIEWED:, _WEEK].sum())  # logQ, but for a constant
                top = max(top, p[n])
            norm = np.float32(0.0)
            for n in range(negatives + 1):
                p[n] = np.float32(0.0) if n and rows[n] == rows[0] else np.exp(p[n] - top)
                norm += p[n]
            g_user[:] = np.float32(0.0)
            for n in range(negatives + 1):
                e = p[n] / norm - (np.float32(1.0) if n == 0 else np.float32(0.0))
                if abs(e) < np.float32(1e-3):
                    continue
                for j in range(size):
                    g_user[j] += e * vector[rows[n], j]
                _step(rows[n], user, e, rate, clip, vector, vector_square, told)
                touched[rows[n]] |= 1
            weight = np.float32(1.0) / total
            for back in range(min(depth, start[i + 1] - start[i])):
                row = history[start[i + 1] - 1 - back]
                if row >= 0 and weight * total > np.float32(0.2):
                    _step(row, g_user, weight, rate, clip, lends, lends_square, told)
                    touched[row] |= 2
                weight *= fade
        recent[counters[0] % recent.size] = item[i]
        counters[0] += 1


@kernel
def _people(
    start: np.ndarray, history: np.ndarray, depth: int, fade: np.float32, lends: np.ndarray, out: np.ndarray
) -> None:
    for i in range(start.size - 1):
        _person(start[i], start[i + 1], history, depth, fade, lends, out[i])


@kernel
def _features(
    users: np.ndarray, vector: np.ndarray, start: np.ndarray, row: np.ndarray, out: np.ndarray, column: int
) -> None:
    """Inner products, four at a time: each addition has to wait for the one before it in its own sum only."""
    none = np.zeros(users.shape[1], np.float32)
    for i in range(start.size - 1):
        user, end = users[i], start[i + 1]
        for m in range(start[i], end, 4):
            four = min(m + 4, end) - m
            a = vector[row[m]] if row[m] >= 0 else none
            b = vector[row[m + 1]] if four > 1 and row[m + 1] >= 0 else none
            c = vector[row[m + 2]] if four > 2 and row[m + 2] >= 0 else none
            d = vector[row[m + 3]] if four > 3 and row[m + 3] >= 0 else none
            p, q, r, s = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(user.size):
                p += user[j] * a[j]
                q += user[j] * b[j]
                r += user[j] * c[j]
                s += user[j] * d[j]
            for n, value in enumerate((p, q, r, s)):
                if n < four:
                    out[m + n, column] = value


class TwoTower:
    """What an item lends to a person who had it, and what an item is: two tables in step with the item table."""

    names: tuple[str, ...] = ("tower",)
    scales: tuple[float, ...] = (0.0,)

    def __init__(self, items: Items, scratch: Scratch, settings: TwoTowerSettings | None = None) -> None:
        self.settings = settings or TwoTowerSettings()
        self._items, self._scratch = items, scratch
        size = self.settings.size
        self.lends = Table({"vector": Column("float32", (size,)), "square": Column("float32")})
        self.wanted = Table({"vector": Column("float32", (size,)), "square": Column("float32")})
        self._recent = np.zeros(self.settings.recent, np.int32)
        self._counters = np.zeros(2, np.int64)
        self.report = TowerReport()  # of the last call of `learn`
        self._index: TowerIndex | None = None  # built when first asked, so that a learner need not keep one

    def admit(self, keys: np.ndarray) -> None:
        """Rows in step with the item table, which has the same keys admitted in the same order."""
        for seed, table in ((self.settings.seed, self.lends), (self.settings.seed + 1, self.wanted)):
            known = len(table)
            table.admit(keys)
            _start(table.keys[known:], seed, table["vector"][known : len(table)])

    def learn(self, actions: Actions) -> None:
        self.report = TowerReport()
        if not len(actions):
            return
        told = np.zeros(5)
        setting, people = self.settings, actions.people
        touched = np.zeros(len(self.wanted), np.uint8)
        _learn(
            actions.row, people.questions.history_start, people.history, self._items.counters["counts"],
            setting.depth, np.float32(setting.fade), setting.negatives, np.float32(setting.rate),
            np.float32(setting.clip),
            self.lends["vector"], self.lends["square"], self.wanted["vector"], self.wanted["square"],
            self._recent, self._counters, touched, told,
        )  # fmt: skip
        usual, far = np.sqrt(told[[SQUARES, MOVES]] / max(1.0, told[MOVED])).tolist()
        self.report = TowerReport(float(told[NORM]), int(told[MOVED]), usual, far, int(told[SKIPPED]))
        wanted = np.flatnonzero(touched & 1)
        self.wanted.touch(wanted)
        self._reindex(wanted)
        self.lends.touch(np.flatnonzero(touched & 2))

    def people(self, people: People) -> np.ndarray:
        """Vectors of people, (n, size) float32; zeros where nothing is known."""
        out = np.zeros((people.questions.ts.size, self.settings.size), np.float32)
        start, setting = people.questions.history_start, self.settings
        _people(start, people.history, setting.depth, np.float32(setting.fade), self.lends["vector"], out)
        return out

    def candidates(self, people: People, k: int, eligible: np.ndarray, hidden: Hidden) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more; of items that were ever trained."""
        vector = self.wanted["vector"]
        if self._index is None:
            self._index = TowerIndex(self.settings.size)
            self._index.update(np.flatnonzero(self.wanted["square"][: len(self.wanted)] > 0), vector)
        return self._index.search(self.people(people), vector, k, eligible, hidden, self._scratch.place)

    def _reindex(self, rows: np.ndarray) -> None:
        """The index, where there is one, follows at once: no question waits for it."""
        if self._index is not None:
            self._index.update(rows[self.wanted["square"][rows] > 0], self.wanted["vector"])

    def features(self, people: People, slates: Slates, out: np.ndarray, column: int) -> None:
        _features(self.people(people), self.wanted["vector"], slates.start, slates.row, out, column)

    def state(self) -> State:
        draws: State = {"recent": self._recent, "counters": self._counters}
        return joined({"lends": self.lends.state(), "wanted": self.wanted.state(), "draws": draws})

    def restore(self, state: State) -> None:
        self.lends.restore(part_of(state, "lends"))
        self.wanted.restore(part_of(state, "wanted"))
        self._recent, self._counters = state["draws.recent"].copy(), state["draws.counters"].copy()
        self._index = None

    def changes(self) -> State:
        """The draws stay behind: a replica does not learn."""
        return joined({"lends": self.lends.changes(), "wanted": self.wanted.changes()})

    def apply(self, changes: State) -> None:
        self.lends.apply(part_of(changes, "lends"))
        self.wanted.apply(part_of(changes, "wanted"))
        self._reindex(changes["wanted.rows"])
