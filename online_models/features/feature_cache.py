"""Ring buffer of the features of shown lists, until their outcome is known."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.state.tables import State
from stream.jit import kernel

_FIRST_ROWS = 1 << 10


@dataclass(frozen=True, slots=True)
class FeatureCacheSettings:
    """Limits of the cache; both are powers of two."""

    rows: int = 1 << 16  # of features, float32: 20 MB for 77 features
    lists: int = 1 << 15

    def __post_init__(self) -> None:
        if any(n < 1 or n & (n - 1) for n in (self.rows, self.lists)):
            raise ValueError(f"rows and lists must be powers of two, got {self}")


class _Ring(NamedTuple):
    """Arrays of the cache."""

    rows: np.ndarray  # (capacity, width) float32
    key: np.ndarray  # (lists,) uint64, impression in this slot, 0 = none
    begin: np.ndarray  # (lists,) int64, number of rows written before the list
    head: np.ndarray  # (1,) int64, rows ever written
    level: np.ndarray  # (1,) int64: one list in 2^level is cached
    changed_at: np.ndarray  # (1,) int64, `head` at the last change of the level


@kernel
def _is_sampled(key: np.uint64, level: np.int64) -> bool:
    return bool(level == 0 or (key >> np.uint64(64 - level)) == 0)


@kernel
def _put(ring: _Ring, keys: np.ndarray, start: np.ndarray, x: np.ndarray) -> None:
    rows, capacity = ring.rows, ring.rows.shape[0]
    for i in range(keys.size):
        length = start[i + 1] - start[i]
        if keys[i] == 0 or length > capacity or not _is_sampled(keys[i], ring.level[0]):
            continue
        slot = np.int64(keys[i] % np.uint64(ring.key.size))
        ring.key[slot], ring.begin[slot] = keys[i], ring.head[0]
        for j in range(length):
            rows[(ring.head[0] + j) % capacity] = x[start[i] + j]
        ring.head[0] += length


@kernel
def _copy(ring: _Ring, keys: np.ndarray, start: np.ndarray, x: np.ndarray, is_found: np.ndarray) -> None:
    """Copy the rows of cached lists into x."""
    rows, capacity = ring.rows, ring.rows.shape[0]
    for i in range(keys.size):
        slot = np.int64(keys[i] % np.uint64(ring.key.size))
        begin = ring.begin[slot]
        is_found[i] = keys[i] != 0 and ring.key[slot] == keys[i] and begin + capacity >= ring.head[0]
        if is_found[i]:
            for j in range(start[i + 1] - start[i]):
                x[start[i] + j] = rows[(begin + j) % capacity]


@kernel
def _adapt_level(ring: _Ring, keys: np.ndarray, is_found: np.ndarray) -> None:
    """Halve the share if lists are overwritten before they close; double it if there is room."""
    capacity = ring.rows.shape[0]
    for i in range(keys.size):
        if ring.head[0] - ring.changed_at[0] < capacity or not _is_sampled(keys[i], ring.level[0]):
            continue
        slot = np.int64(keys[i] % np.uint64(ring.key.size))
        if ring.key[slot] != keys[i]:  # never cached, or another list took its slot
            continue
        age = ring.head[0] - ring.begin[slot]
        if not is_found[i]:
            ring.level[0] = min(ring.level[0] + 1, 32)
            ring.changed_at[0] = ring.head[0]
        elif ring.level[0] > 0 and age < capacity // 4:
            ring.level[0] -= 1
            ring.changed_at[0] = ring.head[0]


class FeatureCache:
    """Ring buffer of feature rows.

    Without it a click would train with counts that already contain the click. When lists are overwritten before their
    attribution window closes, the cache keeps a smaller share of them, by hash: half, a quarter, and so on. That share
    is independent of the outcome, so the training data stay unbiased.
    """

    def __init__(self, width: int, settings: FeatureCacheSettings = FeatureCacheSettings()) -> None:
        self._settings = settings
        self._arrays: State = {
            "rows": np.zeros((min(_FIRST_ROWS, settings.rows), width), np.float32),
            "key": np.zeros(settings.lists, np.uint64),
            "begin": np.zeros(settings.lists, np.int64),
            "head": np.zeros(1, np.int64),
            "level": np.zeros(1, np.int64),
            "changed_at": np.zeros(1, np.int64),
        }

    @property
    def share(self) -> float:
        """Share of the lists that is cached."""
        return float(0.5 ** int(self._arrays["level"][0]))

    def put(self, impressions: np.ndarray, start: np.ndarray, x: np.ndarray) -> None:
        """Cache lists, (n,) uint64 keys; list i is rows [start[i], start[i + 1]) of x."""
        self._grow(x.shape[0])
        _put(_Ring(**self._arrays), impressions, start, x)

    def copy_to(self, x: np.ndarray, impressions: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Write cached lists into x, (m, width) float32; return the mask of those found, (n,)."""
        is_found = np.zeros(impressions.size, np.bool_)
        _copy(_Ring(**self._arrays), impressions, start, x, is_found)
        return is_found

    def adapt_share(self, impressions: np.ndarray, is_found: np.ndarray) -> None:
        """Adapt the share of lists that is cached to those that just closed."""
        _adapt_level(_Ring(**self._arrays), impressions, is_found)

    def _grow(self, rows: int) -> None:
        """Enlarge the buffer until it has its full size; no row is overwritten before."""
        old = self._arrays["rows"]
        capacity, head = old.shape[0], int(self._arrays["head"][0])
        while capacity < self._settings.rows and head + rows > capacity:
            capacity *= 2
        if capacity > old.shape[0]:
            self._arrays["rows"] = np.zeros((capacity, old.shape[1]), np.float32)
            self._arrays["rows"][: old.shape[0]] = old

    def state(self) -> State:
        return self._arrays

    def restore(self, state: State) -> None:
        """Copy the state; a cache of an older release, or of features of another width, is left out."""
        if "level" in state and state["rows"].shape[1] == self._arrays["rows"].shape[1]:
            self._arrays = {name: state[name].copy() for name in self._arrays}
