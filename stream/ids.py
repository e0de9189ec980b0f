"""Ids are strings at the edges; inside, a key is the 64-bit hash of the id, and an index maps keys to rows."""

from collections.abc import Sequence

import numpy as np
from xxhash import xxh3_64_intdigest

from stream.jit import kernel

NO_KEY = 0  # stands for "no id": an empty slot, an absent field
_MIX = np.uint64(0x9E3779B97F4A7C15)
_KEY_OF_NOTHING = np.uint64(xxh3_64_intdigest(b""))


def key_of(name: str) -> int:
    """The key of an id: XXH3-64 of its UTF-8 bytes, never 0.

    >>> key_of("u1") == key_of("u1") != key_of("u2")
    True
    """
    return xxh3_64_intdigest(name.encode()) or 1


def keys_of(names: Sequence[str]) -> np.ndarray:
    """The keys of many ids, (n,) uint64; an empty string becomes NO_KEY.

    >>> keys_of(["", "u1"]).tolist() == [NO_KEY, key_of("u1")]
    True
    """
    keys = np.fromiter(map(xxh3_64_intdigest, map(str.encode, names)), np.uint64, len(names))
    keys[keys == 0] = 1
    keys[keys == _KEY_OF_NOTHING] = NO_KEY
    return keys


def partition_of(name: str, partitions: int) -> int:
    """The partition that owns an id: Kafka's default, so that other people's producers agree (murmur2 of the UTF-8).

    >>> partition_of("u1", 1), partition_of("u1", 12)
    (0, 4)
    """
    if partitions == 1:
        return 0
    return int(_murmur2(np.frombuffer(name.encode(), np.uint8)) & 0x7FFFFFFF) % partitions


@kernel
def _murmur2(data: np.ndarray) -> int:
    """Austin Appleby's MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask, mix = np.uint64(0xFFFFFFFF), np.uint64(0x5BD1E995)
    hashed = np.uint64(0x9747B28C) ^ np.uint64(data.size)
    whole = data.size // 4 * 4
    for i in range(0, whole, 4):
        word = np.uint64(data[i]) | np.uint64(data[i + 1]) << np.uint64(8)
        word |= np.uint64(data[i + 2]) << np.uint64(16) | np.uint64(data[i + 3]) << np.uint64(24)
        word = word * mix & mask
        word ^= word >> np.uint64(24)
        hashed = (hashed * mix & mask) ^ (word * mix & mask)
    for i in range(data.size - 1, whole - 1, -1):
        hashed ^= np.uint64(data[i]) << np.uint64(8 * (i - whole))
        if i == whole:
            hashed = hashed * mix & mask
    hashed ^= hashed >> np.uint64(13)
    hashed = hashed * mix & mask
    return int(hashed ^ hashed >> np.uint64(15))


@kernel
def _home(key: np.uint64, mask: np.uint64) -> np.uint64:
    """The slot where the search for a key begins."""
    return (key * _MIX) >> np.uint64(20) & mask


@kernel
def _slot(slot_keys: np.ndarray, key: np.uint64) -> int:
    """The slot that holds `key`, or the empty one where it would go (linear probing)."""
    mask = np.uint64(slot_keys.size - 1)
    slot = _home(key, mask)
    while slot_keys[slot] != key and slot_keys[slot] != np.uint64(0):
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@kernel
def find_row(slot_keys: np.ndarray, slot_rows: np.ndarray, key: np.uint64) -> int:
    """The row of one key, or -1; for use inside other kernels with `KeyIndex.slots`."""
    if key == np.uint64(0):
        return -1
    slot = _slot(slot_keys, key)
    return int(slot_rows[slot]) if slot_keys[slot] == key else -1


@kernel
def _find(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> None:
    for i in range(keys.size):
        rows[i] = find_row(slot_keys, slot_rows, keys[i])


@kernel
def _insert(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> None:
    for i in range(keys.size):
        slot = _slot(slot_keys, keys[i])
        slot_keys[slot] = keys[i]
        slot_rows[slot] = rows[i]


@kernel
def _number(
    slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray, fresh: np.ndarray, used: int
) -> int:
    """Give each unknown key the next row, in order of first sight; `fresh` collects those keys."""
    count = 0
    for i in range(keys.size):
        if keys[i] == np.uint64(0):
            rows[i] = -1
            continue
        slot = _slot(slot_keys, keys[i])
        if slot_keys[slot] != keys[i]:
            slot_keys[slot] = keys[i]
            slot_rows[slot] = used + count
            fresh[count] = keys[i]
            count += 1
        rows[i] = slot_rows[slot]
    return count


@kernel
def _remove(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray) -> int:
    """Empty the slots of keys; what was pushed past a gap moves back into it, so that no search ends too early."""
    mask = np.uint64(slot_keys.size - 1)
    count = 0
    for i in range(keys.size):
        gap = np.uint64(_slot(slot_keys, keys[i]))
        if slot_keys[gap] == np.uint64(0):
            continue
        probe = (gap + np.uint64(1)) & mask
        while slot_keys[probe] != np.uint64(0):
            if (probe - _home(slot_keys[probe], mask)) & mask >= (probe - gap) & mask:
                slot_keys[gap], slot_rows[gap] = slot_keys[probe], slot_rows[probe]
                gap = probe
            probe = (probe + np.uint64(1)) & mask
        slot_keys[gap] = np.uint64(0)
        count += 1
    return count


class KeyIndex:
    """Key → row by open addressing: no vocabulary to declare, no collisions, grows by doubling.

    >>> index = KeyIndex()
    >>> rows, fresh = index.number(np.array([7, 9, 7], np.uint64), used=0)
    >>> rows.tolist(), fresh.tolist()
    ([0, 1, 0], [7, 9])
    >>> index.find(np.array([9, 8], np.uint64)).tolist()
    [1, -1]
    """

    def __init__(self, capacity: int = 64) -> None:
        size = 1 << max(6, (2 * capacity - 1).bit_length())
        self._keys = np.zeros(size, np.uint64)
        self._rows = np.zeros(size, np.int32)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        """(slot_keys, slot_rows) for `find_row` inside a kernel; valid until the next insertion."""
        return self._keys, self._rows

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32; -1 where a key is unknown."""
        rows = np.empty(keys.size, np.int32)
        _find(self._keys, self._rows, keys, rows)
        return rows

    def insert(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Map each key to the given row; a key already there moves to its new row."""
        self._reserve(keys.size)
        self._used += int(np.count_nonzero(self.find(keys) < 0))
        _insert(self._keys, self._rows, keys, rows.astype(np.int32, copy=False))

    def remove(self, keys: np.ndarray) -> None:
        """Forget keys; one that is unknown is passed over."""
        self._used -= _remove(self._keys, self._rows, keys)

    def number(self, keys: np.ndarray, used: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of keys, where unknown keys get rows `used`, `used` + 1, … by first sight; and those keys."""
        self._reserve(keys.size)
        rows = np.empty(keys.size, np.int32)
        fresh = np.empty(keys.size, np.uint64)
        count = _number(self._keys, self._rows, keys, rows, fresh, used)
        self._used += count
        return rows, fresh[:count]

    def _reserve(self, extra: int) -> None:
        if 2 * (self._used + extra) <= self._keys.size:
            return
        held = self._keys != 0
        keys, rows = self._keys[held], self._rows[held]
        size = 1 << (2 * (self._used + extra) - 1).bit_length()
        self._keys, self._rows = np.zeros(size, np.uint64), np.zeros(size, np.int32)
        _insert(self._keys, self._rows, keys, rows)
