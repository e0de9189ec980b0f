"""Table of learned vectors with admission by count and expiry by age."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.state.tables import Column, State, Table, prefix_states, substate
from stream.ids import GOLDEN_GAMMA, mix64
from stream.jit import kernel

SQUARE_START = 1.0  # Adagrad sum of a new row; 0 marks a row that no id has used yet


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """Shape and first values of the vectors, and the rules by which ids get and lose one."""

    dim: int = 16
    min_count: int = 1  # occurrences after which an id gets a row
    expire_after: float = 0.0  # seconds of event time without an occurrence after which the row is freed; 0 = never
    sweeps_per_ttl: int = 16  # searches for expired rows within `expire_after`
    scale: float = 0.02  # standard deviation of a new vector's entries
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")
        if self.min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {self.min_count}")
        if self.sweeps_per_ttl < 1:
            raise ValueError(f"sweeps_per_ttl must be at least 1, got {self.sweeps_per_ttl}")
        if not 0 <= self.expire_after < float("inf"):
            raise ValueError(f"expire_after must be a finite number of seconds, got {self.expire_after}")
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be finite and at least 0, got {self.scale}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


@kernel
def _draw_normal(bits: np.uint64) -> float:
    """Approximate standard normal number: a scaled sum of four uniform ones, of variance 1/3."""
    total = np.uint64(0)
    for quarter in range(4):
        total += (bits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
    return (float(total) / 65536 - 2.0) * math.sqrt(3.0)


@kernel
def _init_rows(rows: np.ndarray, keys: np.ndarray, seed: int, scale: float, tail: np.ndarray, row: np.ndarray) -> None:
    """Fill unused rows with a vector drawn from key and seed, and with the initial tail."""
    dim = row.shape[1] - tail.size
    for i in range(rows.size):
        at = rows[i]
        if at >= 0 and row[at, dim] == 0:
            for j in range(dim):
                bits = mix64(keys[i] + np.uint64(seed * dim + j) * GOLDEN_GAMMA)
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
    """Map keys to rows without collisions: a vector, its Adagrad sum and extra numbers.

    Kernels write `rows` in place; row -1 stands for an id without a row. `add_keys` may move the rows to a larger
    array: read `rows` after it. A new vector depends on key and seed alone, not on the order of arrival.

    >>> table = EmbeddingTable(EmbeddingSettings(dim=2, min_count=2, expire_after=60.0))
    >>> key = np.array([7], np.uint64)
    >>> [table.add_keys(key, now).tolist() for now in (0, 1_000)]
    [[-1], [0]]
    >>> table.add_keys(np.array([9], np.uint64), 100_000).tolist(), table.lookup(key).tolist()
    ([-1], [-1])
    """

    def __init__(self, settings: EmbeddingSettings, extra: tuple[float, ...] = ()) -> None:
        """Create an empty table whose rows end with `extra` numbers of these first values."""
        self.settings = settings
        self._tail = np.array([SQUARE_START, *extra], np.float32)
        row = Column("float32", (settings.dim + self._tail.size,))
        self._rows = Table({"row": row, "last_seen": Column("int64")})
        self._pending = Table({"count": Column("int32"), "last_seen": Column("int64")})
        self._now = 0  # event time, ms, never decreases
        self._last_sweep = 0  # event time of the last search for expired rows

    def __len__(self) -> int:
        """Number of rows that are used or free for reuse."""
        return len(self._rows)

    @property
    def rows(self) -> np.ndarray:
        """Rows with spare ones, (capacity, dim + 1 + extra) float32: vector, Adagrad sum, extra."""
        return self._rows["row"]

    @property
    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        """Key index for `stream.ids.lookup_row` inside a kernel; valid until the next `add_keys`."""
        return self._rows.slots

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Return rows of keys of any shape, int32; -1 where an id has no row. Counts nothing."""
        return self._rows.lookup(keys.reshape(-1)).reshape(keys.shape)

    def add_keys(self, keys: np.ndarray, now: int) -> np.ndarray:
        """Count an occurrence of each key and return the rows, int32; `now` is event time in ms.

        The occurrence that reaches `min_count` gets the row; earlier ones in the same call keep -1.
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
        if ttl_ms == 0 or self._now - self._last_sweep < ttl_ms // self.settings.sweeps_per_ttl:
            return
        self._last_sweep = self._now
        for table in (self._rows, self._pending):
            is_stale = (table["last_seen"][: len(table)] < self._now - ttl_ms) & (table.keys != 0)
            table.free(np.flatnonzero(is_stale))

    def state(self) -> State:
        """Return all rows, the pending ids and the clock, as views."""
        return self._with_clock({"rows": self._rows.state(), "pending": self._pending.state()})

    def restore(self, state: State) -> None:
        """Replace everything by a copy of `state`."""
        self._rows.restore(substate(state, "rows"))
        self._pending.restore(substate(state, "pending"))
        self._now, self._last_sweep = state["clock"].tolist()

    def changes(self) -> State:
        """Return the rows and pending ids that occurred or were freed since the last call."""
        return self._with_clock({"rows": self._rows.changes(), "pending": self._pending.changes()})

    def apply(self, changes: State) -> None:
        """Write another table's changes."""
        self._rows.apply(substate(changes, "rows"))
        self._pending.apply(substate(changes, "pending"))
        self._now, self._last_sweep = changes["clock"].tolist()

    def _with_clock(self, parts: dict[str, State]) -> State:
        return prefix_states(parts) | {"clock": np.array([self._now, self._last_sweep], np.int64)}
