"""Rows of learnt vectors: an id earns one by being seen, and loses it when it is seen no more."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.state.tables import Column, State, Table, joined, part_of
from stream.jit import kernel

SQUARE_START = 1.0  # where the Adagrad sum of a new row begins; 0 marks a row that no id has yet
_SWEEPS = 16  # times per horizon that unseen rows are looked for
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How long the vectors are, and what an id must do to have one."""

    dim: int = 16
    sights: int = 1  # an id earns its row at this sight
    unseen: float = 0.0  # seconds of event time without a sight after which the row is freed; 0 = never
    scale: float = 0.02  # standard deviation of a new vector's entries
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")
        if self.sights < 1:
            raise ValueError(f"sights must be at least 1, got {self.sights}")
        if not 0 <= self.unseen < float("inf"):
            raise ValueError(f"unseen must be 0 or a number of seconds, got {self.unseen}")
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be a finite number that is not negative, got {self.scale}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


@kernel
def _scramble(bits: np.uint64) -> np.uint64:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@kernel
def _normal(bits: np.uint64) -> float:
    """A nearly normal number from 64 random bits: the sum of four uniform ones has variance 1/3."""
    total = np.uint64(0)
    for quarter in range(4):
        total += (bits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
    return (float(total) / 65536 - 2.0) * math.sqrt(3.0)


@kernel
def _begin(rows: np.ndarray, keys: np.ndarray, seed: int, scale: float, tail: np.ndarray, row: np.ndarray) -> None:
    """A row that no id had gets the vector that its key and the seed decide, and the tail that all begin with."""
    dim = row.shape[1] - tail.size
    for i in range(rows.size):
        at = rows[i]
        if at >= 0 and row[at, dim] == 0:
            for j in range(dim):
                bits = _scramble(keys[i] + np.uint64(seed * dim + j) * _MIX)
                row[at, j] = scale * _normal(bits)
            for j in range(tail.size):
                row[at, dim + j] = tail[j]


@kernel
def _note(rows: np.ndarray, now: int, seen: np.ndarray) -> None:
    for i in range(rows.size):
        if rows[i] >= 0:
            seen[rows[i]] = now


@kernel
def _count(rows: np.ndarray, needed: int, now: int, sights: np.ndarray, seen: np.ndarray, earned: np.ndarray) -> None:
    for i in range(rows.size):
        sights[rows[i]] += 1
        seen[rows[i]] = now
        earned[i] = sights[rows[i]] >= needed


class EmbeddingTable:
    """Key → row: a vector, its row-wise Adagrad sum, and further numbers if asked for, side by side; collisionless.

    Kernels write `rows` in place; row -1 stands for an id without a row. `admit` may move them to a larger array, so
    ask for them after it. A new vector depends on key and seed alone, never on the order of arrival.

    >>> table = EmbeddingTable(EmbeddingSettings(dim=2, sights=2, unseen=60.0))
    >>> key = np.array([7], np.uint64)
    >>> [table.admit(key, now).tolist() for now in (0, 1_000)]
    [[-1], [0]]
    >>> table.admit(np.array([9], np.uint64), 100_000).tolist(), table.find(key).tolist()
    ([-1], [-1])
    """

    def __init__(self, settings: EmbeddingSettings, extra: tuple[float, ...] = ()) -> None:
        """`extra` numbers of a row, with the values they begin with, follow the vector and its Adagrad sum."""
        self.settings = settings
        self._tail = np.array([SQUARE_START, *extra], np.float32)
        row = Column("float32", (settings.dim + self._tail.size,))
        self._rows = Table({"row": row, "seen": Column("int64")})
        self._waiting = Table({"sights": Column("int32"), "seen": Column("int64")})
        self._now = 0  # event time, ms, never goes back
        self._swept = 0  # event time of the last search for unseen rows

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

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys of any shape, int32; -1 where an id has no row. Counts as no sight."""
        return self._rows.find(keys.reshape(-1)).reshape(keys.shape)

    def admit(self, keys: np.ndarray, now: int) -> np.ndarray:
        """Rows of keys of any shape, int32, after counting this sight of each; `now` is event time in ms.

        The nth sight in one call earns the row from there on: earlier ones in the call keep -1.
        """
        self._now = max(self._now, now)
        self._expire()
        flat = keys.reshape(-1)
        rows = self._rows.admit(flat) if self.settings.sights == 1 else self._earn(flat)
        _begin(rows, flat, self.settings.seed, self.settings.scale, self._tail, self.rows)
        if self.settings.unseen:
            _note(rows, self._now, self._rows["seen"])
        self._rows.touch(rows)
        return rows.reshape(keys.shape)

    def _earn(self, keys: np.ndarray) -> np.ndarray:
        rows = self._rows.find(keys)
        unknown = np.flatnonzero((rows < 0) & (keys != 0))
        waiting = self._waiting.admit(keys[unknown])
        earned = np.empty(waiting.size, np.bool_)
        _count(waiting, self.settings.sights, self._now, self._waiting["sights"], self._waiting["seen"], earned)
        self._waiting.touch(waiting)
        self._waiting.free(np.unique(waiting[earned]))
        rows[unknown[earned]] = self._rows.admit(keys[unknown[earned]])
        return rows

    def _expire(self) -> None:
        horizon = int(1000 * self.settings.unseen)
        if horizon == 0 or self._now - self._swept < horizon // _SWEEPS:
            return
        self._swept = self._now
        for table in (self._rows, self._waiting):
            stale = (table["seen"][: len(table)] < self._now - horizon) & (table.keys != 0)
            table.free(np.flatnonzero(stale))

    def state(self) -> State:
        """All rows, what waits for one, and the clock; views."""
        return self._clocked({"rows": self._rows.state(), "waiting": self._waiting.state()})

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""
        self._rows.restore(part_of(state, "rows"))
        self._waiting.restore(part_of(state, "waiting"))
        self._now, self._swept = state["clock"].tolist()

    def changes(self) -> State:
        """Rows seen, freed or waiting since the last call."""
        return self._clocked({"rows": self._rows.changes(), "waiting": self._waiting.changes()})

    def apply(self, changes: State) -> None:
        """Write another table's changes here."""
        self._rows.apply(part_of(changes, "rows"))
        self._waiting.apply(part_of(changes, "waiting"))
        self._now, self._swept = changes["clock"].tolist()

    def _clocked(self, parts: dict[str, State]) -> State:
        return joined(parts) | {"clock": np.array([self._now, self._swept], np.int64)}
