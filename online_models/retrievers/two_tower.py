"""Two towers: a person is the recency-weighted mean of what history items lend, an item is a vector of its own.

Sampled softmax with the sampling correction of Yi et al. (RecSys 2019), row-wise Adagrad, negatives of recent actions.
"""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import Exclusions
from online_models.retrievers.vector_index import VectorIndex
from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import Actions, ItemLists, ItemTable, UserQueries
from online_models.state.tables import Column, State, Table, prefix_states, substate
from online_models.state.workspace import Workspace
from stream.jit import kernel

_WEEK = 4  # of items.HORIZONS: the popularity by which negatives are drawn
# Of `told`: the greatest gradient norm of a row, squares of all, rows moved, how far in squares, rows left alone.
MAX_NORM, NORM_SQUARES, N_UPDATES, UPDATE_SQUARES, N_SKIPPED = range(5)


@dataclass(frozen=True, slots=True)
class TowerReport:
    """How one call of `learn` moved the rows of both tables."""

    gradient_norm: float = 0.0  # greatest, before clipping
    updates: int = 0  # rows, as often as they were
    rms_gradient_norm: float = 0.0  # norm before clipping, root mean square over moves
    update_norm: float = 0.0  # how far a row was moved, root mean square
    skipped: int = 0  # moves left out because a gradient was not finite


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    size: int = 64
    rate: float = 0.1  # of Adagrad
    negatives: int = 16  # per action
    recent: int = 8192  # actions that negatives are drawn from
    depth: int = 16  # latest history items
    decay: float = 0.85  # weight of a history item against the next newer one
    clip: float = 5.0  # largest norm of a row's gradient
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 512:
            raise ValueError(f"size must be 1 to 512, got {self.size}")
        if min(self.rate, self.clip, self.decay) <= 0 or min(self.negatives, self.recent, self.depth) < 1:
            raise ValueError(f"rate, clip, fade, negatives, recent and depth must be positive, got {self}")


@kernel
def _splitmix64(x: np.uint64) -> np.uint64:
    """splitmix64: a hash that serves as a generator, so that a counter is all the state there is."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _init_vectors(keys: np.ndarray, seed: int, vectors: np.ndarray) -> None:
    """First vectors of fresh rows, from their keys alone: uniform, of variance 1 / (10 size)."""
    spread = np.float32(np.sqrt(1.2 / vectors.shape[1]))
    for i in range(keys.size):
        for j in range(vectors.shape[1]):
            draw = _splitmix64(keys[i] ^ _splitmix64(np.uint64(seed * 1024 + j + 1))) >> np.uint64(40)
            vectors[i, j] = (np.float32(draw) / np.float32(16777216.0) - np.float32(0.5)) * spread


@kernel
def _pool_history(
    begin: int,
    end: int,
    history: np.ndarray,
    depth: int,
    decay: np.float32,
    history_vectors: np.ndarray,
    user: np.ndarray,
) -> np.float32:
    """The person's vector; returns the sum of weights, 0 where the history says nothing."""
    user[:] = np.float32(0.0)
    weight, total = np.float32(1.0), np.float32(0.0)
    for back in range(min(depth, end - begin)):
        row = history[end - 1 - back]
        if row >= 0:
            for j in range(user.size):
                user[j] += weight * history_vectors[row, j]
            total += weight
        weight *= decay
    if total > 0.0:
        user /= total
    return total


@kernel
def _step(row: int, gradient: np.ndarray, scale: np.float32, rate: np.float32, clip: np.float32,
          vectors: np.ndarray, squares: np.ndarray, stats: np.ndarray) -> None:  # fmt: skip
    """Row-wise Adagrad on one row, its gradient clipped by norm; one that is not finite changes nothing."""
    square = np.float32(0.0)
    for j in range(gradient.size):
        square += gradient[j] * gradient[j]
    norm = np.sqrt(square) * abs(scale)
    if not np.isfinite(norm):
        stats[N_SKIPPED] += 1
        return
    if norm == 0.0:
        return
    stats[MAX_NORM] = max(stats[MAX_NORM], norm)
    stats[NORM_SQUARES] += norm * norm
    scale *= min(np.float32(1.0), clip / norm)
    squares[row] += scale * scale * square / np.float32(gradient.size)
    step = rate * scale / np.sqrt(squares[row] + np.float32(1e-6))
    for j in range(gradient.size):
        vectors[row, j] -= step * gradient[j]
    stats[N_UPDATES] += 1
    stats[UPDATE_SQUARES] += step * step * square


@kernel
def _learn(
    item: np.ndarray,
    start: np.ndarray,
    history: np.ndarray,
    counts: np.ndarray,
    depth: int,
    decay: np.float32,
    negatives: int,
    rate: np.float32,
    clip: np.float32,
    history_vectors: np.ndarray,
    history_square: np.ndarray,
    vector: np.ndarray,
    vector_square: np.ndarray,
    recent: np.ndarray,
    counters: np.ndarray,
    touched: np.ndarray,
    stats: np.ndarray,
) -> None:
    """`counters`: actions put into `recent`, draws made. `touched` collects the rows that changed, by their number."""
    size = vector.shape[1]
    user, g_user = np.empty(size, np.float32), np.empty(size, np.float32)
    rows = np.empty(negatives + 1, np.int64)
    p = np.empty(negatives + 1, np.float32)
    for i in range(item.size):
        if item[i] < 0:
            continue
        n_recent = min(counters[0], recent.size)
        total = _pool_history(start[i], start[i + 1], history, depth, decay, history_vectors, user)
        if n_recent > 64 and total > 0.0:
            rows[0] = item[i]
            top = np.float32(-1e30)
            for n in range(negatives + 1):
                if n:
                    counters[1] += 1
                    rows[n] = recent[np.int64(_splitmix64(np.uint64(counters[1])) % np.uint64(n_recent))]
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
                _step(rows[n], user, e, rate, clip, vector, vector_square, stats)
                touched[rows[n]] |= 1
            weight = np.float32(1.0) / total
            for back in range(min(depth, start[i + 1] - start[i])):
                row = history[start[i + 1] - 1 - back]
                if row >= 0 and weight * total > np.float32(0.2):
                    _step(row, g_user, weight, rate, clip, history_vectors, history_square, stats)
                    touched[row] |= 2
                weight *= decay
        recent[counters[0] % recent.size] = item[i]
        counters[0] += 1


@kernel
def _pool_histories(
    start: np.ndarray, history: np.ndarray, depth: int, decay: np.float32, history_vectors: np.ndarray, out: np.ndarray
) -> None:
    for i in range(start.size - 1):
        _pool_history(start[i], start[i + 1], history, depth, decay, history_vectors, out[i])


@kernel
def _write_scores(
    user_vectors: np.ndarray, vector: np.ndarray, start: np.ndarray, row: np.ndarray, out: np.ndarray, column: int
) -> None:
    """Inner products, four at a time: each addition has to wait for the one before it in its own sum only."""
    zeros = np.zeros(user_vectors.shape[1], np.float32)
    for i in range(start.size - 1):
        user, end = user_vectors[i], start[i + 1]
        for m in range(start[i], end, 4):
            n_lanes = min(m + 4, end) - m
            a = vector[row[m]] if row[m] >= 0 else zeros
            b = vector[row[m + 1]] if n_lanes > 1 and row[m + 1] >= 0 else zeros
            c = vector[row[m + 2]] if n_lanes > 2 and row[m + 2] >= 0 else zeros
            d = vector[row[m + 3]] if n_lanes > 3 and row[m + 3] >= 0 else zeros
            p, q, r, s = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(user.size):
                p += user[j] * a[j]
                q += user[j] * b[j]
                r += user[j] * c[j]
                s += user[j] * d[j]
            for n, value in enumerate((p, q, r, s)):
                if n < n_lanes:
                    out[m + n, column] = value


class TwoTowerRetriever:
    """What an item lends to a person who had it, and what an item is: two tables in step with the item table."""

    names: tuple[str, ...] = ("two_tower",)
    scales: tuple[float, ...] = (0.0,)

    def __init__(self, items: ItemTable, workspace: Workspace, settings: TwoTowerSettings | None = None) -> None:
        self.settings = settings or TwoTowerSettings()
        self._items, self._workspace = items, workspace
        size = self.settings.size
        self.history_vectors = Table({"vector": Column("float32", (size,)), "square": Column("float32")})
        self.item_vectors = Table({"vector": Column("float32", (size,)), "square": Column("float32")})
        self._recent = np.zeros(self.settings.recent, np.int32)
        self._counters = np.zeros(2, np.int64)
        self.report = TowerReport()  # of the last call of `learn`
        self._index: VectorIndex | None = None  # built when first asked, so that a learner need not keep one

    def add_keys(self, keys: np.ndarray) -> None:
        """Rows in step with the item table, which has the same keys admitted in the same order."""
        for seed, table in ((self.settings.seed, self.history_vectors), (self.settings.seed + 1, self.item_vectors)):
            n_before = len(table)
            table.add_keys(keys)
            _init_vectors(table.keys[n_before:], seed, table["vector"][n_before : len(table)])

    def learn(self, actions: Actions) -> None:
        self.report = TowerReport()
        if not len(actions):
            return
        stats = np.zeros(5)
        setting, users = self.settings, actions.users
        changed = np.zeros(len(self.item_vectors), np.uint8)
        _learn(
            actions.row, users.queries.history_start, users.history, self._items.counters["counts"],
            setting.depth, np.float32(setting.decay), setting.negatives, np.float32(setting.rate),
            np.float32(setting.clip),
            self.history_vectors["vector"], self.history_vectors["square"], self.item_vectors["vector"], self.item_vectors["square"],
            self._recent, self._counters, changed, stats,
        )  # fmt: skip
        rms_gradient_norm, update_rms = np.sqrt(
            stats[[NORM_SQUARES, UPDATE_SQUARES]] / max(1.0, stats[N_UPDATES])
        ).tolist()
        self.report = TowerReport(
            float(stats[MAX_NORM]), int(stats[N_UPDATES]), rms_gradient_norm, update_rms, int(stats[N_SKIPPED])
        )
        item_rows = np.flatnonzero(changed & 1)
        self.item_vectors.mark_changed(item_rows)
        self._reindex(item_rows)
        self.history_vectors.mark_changed(np.flatnonzero(changed & 2))

    def encode_users(self, users: UserQueries) -> np.ndarray:
        """Vectors of people, (n, size) float32; zeros where nothing is known."""
        out = np.zeros((users.queries.ts.size, self.settings.size), np.float32)
        start, setting = users.queries.history_start, self.settings
        _pool_histories(
            start, users.history, setting.depth, np.float32(setting.decay), self.history_vectors["vector"], out
        )
        return out

    def retrieve(self, users: UserQueries, k: int, eligible: np.ndarray, exclusions: Exclusions) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more; of items that were ever trained."""
        vector = self.item_vectors["vector"]
        if self._index is None:
            self._index = VectorIndex(self.settings.size)
            self._index.update(np.flatnonzero(self.item_vectors["square"][: len(self.item_vectors)] > 0), vector)
        return self._index.search(
            self.encode_users(users), vector, k, eligible, exclusions, self._workspace.entry_index
        )

    def _reindex(self, rows: np.ndarray) -> None:
        """The index, where there is one, follows at once: no question waits for it."""
        if self._index is not None:
            self._index.update(rows[self.item_vectors["square"][rows] > 0], self.item_vectors["vector"])

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        _write_scores(self.encode_users(users), self.item_vectors["vector"], lists.start, lists.row, out, column)

    def state(self) -> State:
        draws: State = {"recent": self._recent, "counters": self._counters}
        return prefix_states(
            {"history_vectors": self.history_vectors.state(), "item_vectors": self.item_vectors.state(), "draws": draws}
        )

    def restore(self, state: State) -> None:
        self.history_vectors.restore(substate(state, "history_vectors"))
        self.item_vectors.restore(substate(state, "item_vectors"))
        self._recent, self._counters = state["draws.recent"].copy(), state["draws.counters"].copy()
        self._index = None

    def changes(self) -> State:
        """The draws stay behind: a replica does not learn."""
        return prefix_states(
            {"history_vectors": self.history_vectors.changes(), "item_vectors": self.item_vectors.changes()}
        )

    def apply(self, changes: State) -> None:
        self.history_vectors.apply(substate(changes, "history_vectors"))
        self.item_vectors.apply(substate(changes, "item_vectors"))
        self._reindex(changes["item_vectors.rows"])
