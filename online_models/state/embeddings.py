"""Rows of learnt vectors: an id earns one by being seen, and loses it when it is seen no more."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.state.tables import Column, State, Table, prefix_states, substate
from stream.jit import kernel

SQUARE_START = 1.0  # where the Adagrad sum of a new row begins; 0 marks a row that no id has yet
_SWEEPS_PER_TTL = 16  # times per horizon that unseen rows are looked for
_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How long the vectors are, and what an id must do to have one."""

    dim: int = 16
    min_count: int = 1  # an id earns its row at this sight
    expire_after: float = 0.0  # seconds of event time without a sight after which the row is freed; 0 = never
    scale: float = 0.02  # standard deviation of a new vector's entries
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")
        if self.min_count < 1:
            raise ValueError(f"sights must be at least 1, got {self.min_count}")
        if not 0 <= self.expire_after < float("inf"):
            raise ValueError(f"unseen must be 0 or a number of seconds, got {self.expire_after}")
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be a finite number that is not negative, got {self.scale}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


@kernel
def _splitmix64_finalize(bits: np.uint64) -> np.uint64:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@kernel
def _draw_normal(bits: np.uint64) -> float:
    """A nearly normal number from 64 random bits: the sum of four uniform ones has variance 1/3."""
    total = np.uint64(0)
    for quarter in range(4):
        total += (bits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
    return (float(total) / 65536 - 2.0) * math.sqrt(3.0)


@kernel
def _init_rows(rows: np.ndarray, keys: np.ndarray, seed: int, scale: float, tail: np.ndarray, row: np.ndarray) -> None:
    """A row that no id had gets the vector that its key and the seed decide, and the tail that all begin with."""
    dim = row.shape[1] - tail.size
    for i in range(rows.size):
        at = rows[i]
        if at >= 0 and row[at, dim] == 0:
            for j in range(dim):
                bits = _splitmix64_finalize(keys[i] + np.uint64(seed * dim + j) * _GOLDEN_GAMMA)
                row[at, j] = scale * _draw_normal(bits)
            for j in range(tail.size):
                row[at, dim + j] = tail[j]


@kernel
def _mark_seen(rows: np.ndarray, now: int, last_seen: np.ndarray) -> None:
    for i in range(rows.size):
        if rows[i] >= 0:
            last_seen[rows[i]] = now


@kernel
def _count_keys(
    rows: np.ndarray, min_count: int, now: int, counts: np.ndarray, last_seen: np.ndarray, is_admitted: np.ndarray
) -> None:
    for i in range(rows.size):
        counts[rows[i]] += 1
        last_seen[rows[i]] = now
        is_admitted[i] = counts[rows[i]] >= min_count


class EmbeddingTable:
    """Key → row: a vector, its row-wise Adagrad sum, and further numbers if asked for, side by side; collisionless.

    Kernels write `rows` in place; row -1 stands for an id without a row. `admit` may move them to a larger array, so
    ask for them after it. A new vector depends on key and seed alone, never on the order of arrival.

    >>> table = EmbeddingTable(EmbeddingSettings(dim=2, min_count=2, expire_after=60.0))
    >>> key = np.array([7], np.uint64)
    >>> [table.add_keys(key, now).tolist() for now in (0, 1_000)]
    [[-1], [0]]
    >>> table.add_keys(np.array([9], np.uint64), 100_000).tolist(), table.lookup(key).tolist()
    ([-1], [-1])
    """

    def __init__(self, settings: EmbeddingSettings, extra: tuple[float, ...] = ()) -> None:
        """`extra` numbers of a row, with the values they begin with, follow the vector and its Adagrad sum."""
        self.settings = settings
        self._tail = np.array([SQUARE_START, *extra], np.float32)
        row = Column("float32", (settings.dim + self._tail.size,))
        self._rows = Table({"row": row, "last_seen": Column("int64")})
        self._pending = Table({"count": Column("int32"), "last_seen": Column("int64")})
        self._now = 0  # event time, ms, never goes back
        self._last_sweep = 0  # event time of the last search for unseen rows

    def __len__(self) -> int:
        """Rows in use or free to be used again."""
        return len(self._rows)

    @property
    def rows(self) -> np.ndarray:
        """All rows and spare ones, (capacity, dim + 1 + extra) float32: vector, Adagrad sum, extra numbers."""
        return self._rows["row"]

    @property
    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        """The key index for `stream.ids.find_row` inside a kernel; valid until the next `admit`."""
        return self._rows.slots

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys of any shape, int32; -1 where an id has no row. Counts as no sight."""
        return self._rows.lookup(keys.reshape(-1)).reshape(keys.shape)

    def add_keys(self, keys: np.ndarray, now: int) -> np.ndarray:
        """Rows of keys of any shape, int32, after counting this sight of each; `now` is event time in ms.

        The nth sight in one call earns the row from there on: earlier ones in the call keep -1.
        """
        self._now = max(self._now, now)
        self._expire()
        flat = keys.reshape(-1)
        rows = self._rows.add_keys(flat) if self.settings.min_count == 1 else self._add_frequent(flat)
        _init_rows(rows, flat, self.settings.seed, self.settings.scale, self._tail, self.rows)
        if self.settings.expire_after:
            _mark_seen(rows, self._now, self._rows["last_seen"])
        self._rows.mark_changed(rows)
        return rows.reshape(keys.shape)

    def _add_frequent(self, keys: np.ndarray) -> np.ndarray:
        rows = self._rows.lookup(keys)
        unknown = np.flatnonzero((rows < 0) & (keys != 0))
        pending_rows = self._pending.add_keys(keys[unknown])
        is_admitted = np.empty(pending_rows.size, np.bool_)
        _count_keys(
            pending_rows,
            self.settings.min_count,
            self._now,
            self._pending["count"],
            self._pending["last_seen"],
            is_admitted,
        )
        self._pending.mark_changed(pending_rows)
        self._pending.free(np.unique(pending_rows[is_admitted]))
        rows[unknown[is_admitted]] = self._rows.add_keys(keys[unknown[is_admitted]])
        return rows

    def _expire(self) -> None:
        ttl_ms = int(1000 * self.settings.expire_after)
        if ttl_ms == 0 or self._now - self._last_sweep < ttl_ms // _SWEEPS_PER_TTL:
            return
        self._last_sweep = self._now
        for table in (self._rows, self._pending):
            is_stale = (table["last_seen"][: len(table)] < self._now - ttl_ms) & (table.keys != 0)
            table.free(np.flatnonzero(is_stale))

    def state(self) -> State:
        """All rows, what waits for one, and the clock; views."""
        return self._with_clock({"rows": self._rows.state(), "pending": self._pending.state()})

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""
        self._rows.restore(substate(state, "rows"))
        self._pending.restore(substate(state, "pending"))
        self._now, self._last_sweep = state["clock"].tolist()

    def changes(self) -> State:
        """Rows seen, freed or waiting since the last call."""
        return self._with_clock({"rows": self._rows.changes(), "pending": self._pending.changes()})

    def apply(self, changes: State) -> None:
        """Write another table's changes here."""
        self._rows.apply(substate(changes, "rows"))
        self._pending.apply(substate(changes, "pending"))
        self._now, self._last_sweep = changes["clock"].tolist()

    def _with_clock(self, parts: dict[str, State]) -> State:
        return prefix_states(parts) | {"clock": np.array([self._now, self._last_sweep], np.int64)}
