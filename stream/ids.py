"""Hash ids to 64-bit keys, map keys to rows, and ids to partitions."""

from collections.abc import Sequence

import numpy as np
from xxhash import xxh3_64_intdigest

from stream.jit import kernel

NO_KEY = 0  # no id: an empty slot, a missing field
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_EMPTY_ID_HASH = np.uint64(xxh3_64_intdigest(b""))


def hash_id(name: str) -> int:
    """Hash an id to its key: XXH3-64 of its UTF-8 bytes, never 0.

    >>> hash_id("u1") == hash_id("u1") != hash_id("u2")
    True
    """
    return xxh3_64_intdigest(name.encode()) or 1


def hash_ids(ids: Sequence[str]) -> np.ndarray:
    """Hash many ids to keys, (n,) uint64; an empty string becomes NO_KEY.

    >>> hash_ids(["", "u1"]).tolist() == [NO_KEY, hash_id("u1")]
    True
    """
    keys = np.fromiter(map(xxh3_64_intdigest, map(str.encode, ids)), np.uint64, len(ids))
    keys[keys == 0] = 1
    keys[keys == _EMPTY_ID_HASH] = NO_KEY
    return keys


def partition_for_id(name: str, partitions: int) -> int:
    """Partition that owns an id: murmur2 of its UTF-8 bytes, as in Kafka's default partitioner.

    >>> partition_for_id("u1", 1), partition_for_id("u1", 12)
    (0, 4)
    """
    if partitions == 1:
        return 0
    return int(_murmur2(np.frombuffer(name.encode(), np.uint8)) & 0x7FFFFFFF) % partitions


def partitions_for_ids(names: Sequence[str], partitions: int) -> np.ndarray:
    """Partitions that own ids, (n,) int64, as `partition_for_id` gives them.

    >>> partitions_for_ids(["u1", "ü", ""], 12).tolist() == [partition_for_id(name, 12) for name in ("u1", "ü", "")]
    True
    """
    text = "".join(names)
    data = text.encode(errors="surrogatepass")
    pieces = names if len(data) == len(text) else [name.encode(errors="surrogatepass") for name in names]
    ends = np.cumsum(np.fromiter(map(len, pieces), np.int64, len(names)))
    owners = np.empty(len(names), np.int64)
    _assign_partitions(np.frombuffer(data, np.uint8), ends, partitions, owners)
    return owners


@kernel
def _assign_partitions(data: np.ndarray, ends: np.ndarray, partitions: int, owners: np.ndarray) -> None:
    start = 0
    for i in range(ends.size):
        owners[i] = (_murmur2(data[start : ends[i]]) & 0x7FFFFFFF) % partitions
        start = ends[i]


@kernel
def _murmur2(data: np.ndarray) -> int:
    """MurmurHash2 (Appleby) with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask, mix = np.uint64(0xFFFFFFFF), np.uint64(0x5BD1E995)
    digest = np.uint64(0x9747B28C) ^ np.uint64(data.size)
    aligned_size = data.size // 4 * 4
    for i in range(0, aligned_size, 4):
        word = np.uint64(data[i]) | np.uint64(data[i + 1]) << np.uint64(8)
        word |= np.uint64(data[i + 2]) << np.uint64(16) | np.uint64(data[i + 3]) << np.uint64(24)
        word = word * mix & mask
        word ^= word >> np.uint64(24)
        digest = (digest * mix & mask) ^ (word * mix & mask)
    for i in range(data.size - 1, aligned_size - 1, -1):
        digest ^= np.uint64(data[i]) << np.uint64(8 * (i - aligned_size))
        if i == aligned_size:
            digest = digest * mix & mask
    digest ^= digest >> np.uint64(13)
    digest = digest * mix & mask
    return int(digest ^ digest >> np.uint64(15))


@kernel
def mix64(bits: np.uint64) -> np.uint64:
    """SplitMix64 finalizer (Steele, Lea and Flood 2014): each bit depends on all bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@kernel
def _home_slot(key: np.uint64, mask: np.uint64) -> np.uint64:
    """Slot where the search for a key starts."""
    return (key * GOLDEN_GAMMA) >> np.uint64(20) & mask


@kernel
def _find_slot(slot_keys: np.ndarray, key: np.uint64) -> int:
    """Slot that holds `key`, or the empty slot for it (linear probing)."""
    mask = np.uint64(slot_keys.size - 1)
    slot = _home_slot(key, mask)
    while slot_keys[slot] != key and slot_keys[slot] != np.uint64(0):
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@kernel
def lookup_row(slot_keys: np.ndarray, slot_rows: np.ndarray, key: np.uint64) -> int:
    """Row of one key, or -1; for other kernels, with `KeyIndex.slots`."""
    if key == np.uint64(0):
        return -1
    slot = _find_slot(slot_keys, key)
    return int(slot_rows[slot]) if slot_keys[slot] == key else -1


@kernel
def _lookup(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> None:
    for i in range(keys.size):
        rows[i] = lookup_row(slot_keys, slot_rows, keys[i])


@kernel
def _insert(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> None:
    for i in range(keys.size):
        slot = _find_slot(slot_keys, keys[i])
        slot_keys[slot] = keys[i]
        slot_rows[slot] = rows[i]


@kernel
def _set_defaults(
    slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray, known: np.ndarray
) -> int:
    """Insert unknown keys; returns their number."""
    count = 0
    for i in range(keys.size):
        slot = _find_slot(slot_keys, keys[i])
        if slot_keys[slot] == keys[i]:
            known[i] = slot_rows[slot]
            continue
        slot_keys[slot], slot_rows[slot] = keys[i], rows[i]
        known[i] = -1
        count += 1
    return count


@kernel
def _lookup_or_insert(
    slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray, rows: np.ndarray, new_keys: np.ndarray, n_rows: int
) -> int:
    """Assign the next row to each unknown key, and collect these keys in `new_keys`."""
    count = 0
    for i in range(keys.size):
        if keys[i] == np.uint64(0):
            rows[i] = -1
            continue
        slot = _find_slot(slot_keys, keys[i])
        if slot_keys[slot] != keys[i]:
            slot_keys[slot] = keys[i]
            slot_rows[slot] = n_rows + count
            new_keys[count] = keys[i]
            count += 1
        rows[i] = slot_rows[slot]
    return count


@kernel
def _remove(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray) -> int:
    """Empty the slots of keys; later entries of a probe chain move up to fill the gap."""
    mask = np.uint64(slot_keys.size - 1)
    count = 0
    for i in range(keys.size):
        gap = np.uint64(_find_slot(slot_keys, keys[i]))
        if slot_keys[gap] == np.uint64(0):
            continue
        probe = (gap + np.uint64(1)) & mask
        while slot_keys[probe] != np.uint64(0):
            if (probe - _home_slot(slot_keys[probe], mask)) & mask >= (probe - gap) & mask:
                slot_keys[gap], slot_rows[gap] = slot_keys[probe], slot_rows[probe]
                gap = probe
            probe = (probe + np.uint64(1)) & mask
        slot_keys[gap] = np.uint64(0)
        count += 1
    return count


class KeyIndex:
    """Map from key to row by open addressing.

    It needs no declared vocabulary, has no collisions and grows by doubling.

    >>> index = KeyIndex()
    >>> rows, new_keys = index.lookup_or_insert(np.array([7, 9, 7], np.uint64), n_rows=0)
    >>> rows.tolist(), new_keys.tolist()
    ([0, 1, 0], [7, 9])
    >>> index.lookup(np.array([9, 8], np.uint64)).tolist()
    [1, -1]
    """

    def __init__(self, capacity: int = 64) -> None:
        size = 1 << max(6, (2 * capacity - 1).bit_length())
        self._keys = np.zeros(size, np.uint64)
        self._rows = np.zeros(size, np.int32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        """Arrays (slot_keys, slot_rows) for `lookup_row` in a kernel; valid until an insertion."""
        return self._keys, self._rows

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32; -1 for unknown keys."""
        rows = np.empty(keys.size, np.int32)
        _lookup(self._keys, self._rows, keys, rows)
        return rows

    def insert(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Map each key to the given row; a known key moves to its new row."""
        self._reserve(keys.size)
        self._count += int(np.count_nonzero(self.lookup(keys) < 0))
        _insert(self._keys, self._rows, keys, rows.astype(np.int32, copy=False))

    def remove(self, keys: np.ndarray) -> None:
        """Remove keys; unknown keys are ignored."""
        self._count -= _remove(self._keys, self._rows, keys)

    def lookup_or_insert(self, keys: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of keys, (n,) int32, and the new keys.

        New keys get rows `n_rows`, `n_rows` + 1, … in order of first occurrence.
        """
        self._reserve(keys.size)
        rows = np.empty(keys.size, np.int32)
        new_keys = np.empty(keys.size, np.uint64)
        count = _lookup_or_insert(self._keys, self._rows, keys, rows, new_keys, n_rows)
        self._count += count
        return rows, new_keys[:count]

    def setdefault(self, keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of known keys, (n,) int32; the others get the given rows, and -1 as result.

        A key that occurs twice is known at its second occurrence.
        """
        self._reserve(keys.size)
        known = np.empty(keys.size, np.int32)
        self._count += _set_defaults(self._keys, self._rows, keys, rows, known)
        return known

    def _reserve(self, extra: int) -> None:
        if 2 * (self._count + extra) <= self._keys.size:
            return
        occupied = self._keys != 0
        keys, rows = self._keys[occupied], self._rows[occupied]
        size = 1 << (2 * (self._count + extra) - 1).bit_length()
        self._keys, self._rows = np.zeros(size, np.uint64), np.zeros(size, np.int32)
        _insert(self._keys, self._rows, keys, rows)
