"""Two-tower retriever: a user vector is the recency-weighted mean of history vectors.

Each item has a history vector and a candidate vector. Training: sampled softmax with the sampling correction of Yi et
al. (RecSys 2019), row-wise Adagrad, negatives of recent actions.
"""

from dataclasses import dataclass, field

import numpy as np

from online_models.retrievers.candidates import Channel, Exclusions, make_filter
from online_models.retrievers.retriever import Retriever
from online_models.retrievers.tower_kernels import (
    MAX_NORM,
    N_SKIPPED,
    N_UPDATES,
    NORM_SQUARES,
    UPDATE_SQUARES,
    RecentItems,
    Tower,
    TrainingSteps,
    init_vectors,
    pool_histories,
    train,
    write_inner_products,
)
from online_models.retrievers.vector_index import IndexSettings, VectorIndex
from online_models.state.item_table import Actions, ItemLists, ItemTable, UserQueries
from online_models.state.tables import Column, State, Table, prefix_states, substate
from online_models.state.workspace import Workspace


@dataclass(frozen=True, slots=True)
class TowerReport:
    """Updates of the rows of both tables by one call of `learn`."""

    gradient_norm: float = 0.0  # greatest, before clipping
    updates: int = 0  # of rows; a row counts as often as it was updated
    rms_gradient_norm: float = 0.0  # norm before clipping, root mean square over updates
    update_norm: float = 0.0  # root mean square of the change of a row
    skipped: int = 0  # updates skipped because a gradient was not finite


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    size: int = 64
    rate: float = 0.1  # of Adagrad
    negatives: int = 16  # per action
    recent: int = 8192  # latest actions that negatives are drawn from
    min_recent: int = 64  # actions before training starts
    depth: int = 16  # latest history items
    decay: float = 0.85  # factor of a history item's weight per later item
    min_weight: float = 0.2  # weight below which a history item is not trained
    min_error: float = 1e-3  # absolute error of a probability below which an item is not trained
    clip: float = 5.0  # largest norm of a row's gradient
    seed: int = 1
    index: IndexSettings = field(default_factory=IndexSettings)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 512:
            raise ValueError(f"size must be 1 to 512, got {self.size}")
        if min(self.rate, self.clip, self.decay) <= 0 or min(self.negatives, self.recent, self.depth) < 1:
            raise ValueError(f"rate, clip, decay, negatives, recent and depth must be positive, got {self}")
        if min(self.min_recent, self.min_weight, self.min_error) < 0:
            raise ValueError(f"min_recent, min_weight and min_error must be at least 0, got {self}")


class TwoTowerRetriever(Retriever):
    """Find items whose vectors have the largest inner product with the user's vector.

    The tables of both towers have the rows of the item table; they follow it whenever they are used.
    """

    channel = Channel.two_tower
    names: tuple[str, ...] = ("two_tower",)
    scales: tuple[float, ...] = (0.0,)
    is_reproducible = False

    def __init__(
        self, items: ItemTable, settings: TwoTowerSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = setting = settings or TwoTowerSettings()
        self._items, self._workspace = items, workspace or Workspace()
        columns = {"vector": Column("float32", (setting.size,)), "square": Column("float32")}
        self._history_vectors, self._item_vectors = Table(columns), Table(columns)
        self._recent = RecentItems(np.zeros(setting.recent, np.int32), np.zeros(2, np.int64))
        self._index: VectorIndex | None = None  # built by the first `retrieve`, so that a learner need not keep one

    @property
    def history_vectors(self) -> Table:
        """Vectors that items give to the users who have them in their history."""
        self._add_new_items()
        return self._history_vectors

    @property
    def item_vectors(self) -> Table:
        """Vectors of the items as candidates."""
        self._add_new_items()
        return self._item_vectors

    def _add_new_items(self) -> None:
        n_rows = len(self._item_vectors)
        if n_rows >= len(self._items):
            return
        new_keys, seed = self._items.keys[n_rows:], self.settings.seed
        for table_seed, table in ((seed, self._history_vectors), (seed + 1, self._item_vectors)):
            table.add_keys(new_keys)
            init_vectors(new_keys, table_seed, table["vector"][n_rows : len(table)])

    def learn(self, actions: Actions) -> TowerReport:
        """Train on actions in their order."""
        if not len(actions):
            return TowerReport()
        history_tower, item_tower = self._towers()
        changed, stats = np.zeros(len(self.item_vectors), np.uint8), np.zeros(5)
        users, counts = actions.users, self._items.counters["counts"]
        train(
            actions.row, users.queries.history_start, users.history, counts, self._training_steps(), history_tower,
            item_tower, self._recent, changed, stats,
        )  # fmt: skip
        item_rows = np.flatnonzero(changed & 1)
        self.item_vectors.mark_changed(item_rows)
        self._reindex(item_rows)
        self.history_vectors.mark_changed(np.flatnonzero(changed & 2))
        return _make_report(stats)

    def _towers(self) -> tuple[Tower, Tower]:
        history_vectors, item_vectors = self.history_vectors, self.item_vectors
        history_tower = Tower(history_vectors["vector"], history_vectors["square"])
        return history_tower, Tower(item_vectors["vector"], item_vectors["square"])

    def _training_steps(self) -> TrainingSteps:
        setting = self.settings
        return TrainingSteps(*(getattr(setting, name) for name in TrainingSteps._fields))

    def encode_users(self, users: UserQueries) -> np.ndarray:
        """Return the vectors of users, (n, size) float32; zeros where no history item is known."""
        out = np.zeros((len(users), self.settings.size), np.float32)
        setting, vector = self.settings, self.history_vectors["vector"]
        pool_histories(users.queries.history_start, users.history, setting.depth, setting.decay, vector, out)
        return out

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        """Return trained item rows, (n, k) int32, best first, -1 where there are no more."""
        table = self.item_vectors
        vector = table["vector"]
        if self._index is None:
            self._index = VectorIndex(self.settings.size, self.settings.index)
            self._index.update(np.flatnonzero(table["square"][: len(table)] > 0), vector)
        candidates = make_filter(self._items, self._workspace, len(users), eligible, exclusions)
        return self._index.search(self.encode_users(users), vector, k, candidates)

    def _reindex(self, rows: np.ndarray) -> None:
        """Update the index, if there is one, at once, so that no query waits for it."""
        if self._index is not None:
            self._index.update(rows[self.item_vectors["square"][rows] > 0], self.item_vectors["vector"])

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        vectors = self.encode_users(users), self.item_vectors["vector"]
        write_inner_products(*vectors, lists.start, lists.row, out, column)

    def state(self) -> State:
        draws: State = {"recent": self._recent.row, "counters": self._recent.counters}
        return prefix_states(
            {"history_vectors": self.history_vectors.state(), "item_vectors": self.item_vectors.state(), "draws": draws}
        )

    def restore(self, state: State) -> None:
        self._history_vectors.restore(substate(state, "history_vectors"))
        self._item_vectors.restore(substate(state, "item_vectors"))
        self._recent = RecentItems(state["draws.recent"].copy(), state["draws.counters"].copy())
        self._index = None

    def changes(self) -> State:
        """Return the changed vectors, without the recent items: a replica does not train."""
        return prefix_states(
            {"history_vectors": self.history_vectors.changes(), "item_vectors": self.item_vectors.changes()}
        )

    def apply(self, changes: State) -> None:
        self._history_vectors.apply(substate(changes, "history_vectors"))
        self._item_vectors.apply(substate(changes, "item_vectors"))
        self._reindex(changes["item_vectors.rows"])


def _make_report(stats: np.ndarray) -> TowerReport:
    squares = stats[[NORM_SQUARES, UPDATE_SQUARES]] / max(1.0, stats[N_UPDATES])
    rms_gradient_norm, update_norm = np.sqrt(squares).tolist()
    updates, skipped = int(stats[N_UPDATES]), int(stats[N_SKIPPED])
    return TowerReport(float(stats[MAX_NORM]), updates, rms_gradient_norm, update_norm, skipped)
