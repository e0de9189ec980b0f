"""Single actions on slates that do not count in anybody's past: they are poison, whoever's name they bear."""

from collections.abc import Iterable

import numpy as np

from online_models.state.tables import State
from stream.ids import NO_KEY, KeyIndex
from stream.logs import EventLog
from stream.records.batches import EventType, Queries
from stream.records.decoding import decode_records
from stream.records.events import Limits
from stream.topics import EVENTS

Ranges = dict[str, list[tuple[int, int]]]

_MAX_ACTIONS = 1 << 20  # actions that are known, the latest
_READ_RECORDS = 4096
_NO_LIMITS = Limits(max_age=0, max_skew=1e12, max_bytes=1 << 40)


class ActionDenylist:
    """Knows actions by a fingerprint of person, item, type and time, which is all that a history keeps of them."""

    def __init__(self) -> None:
        self._load(np.zeros(0, np.int64), np.zeros(0, np.uint64))
        self._is_changed = False

    def _load(self, ts: np.ndarray, fingerprints: np.ndarray) -> None:
        self._ts, self._fingerprints = ts, fingerprints
        self._index = KeyIndex(max(1, ts.size))
        self._index.lookup_or_insert(fingerprints, 0)
        self._ts_range = (int(ts.min()), int(ts.max())) if ts.size else (0, -1)

    def __len__(self) -> int:
        return int(self._ts.size)

    def exclude(self, log: EventLog, ranges: Ranges) -> None:
        """Add the actions on slates among the events at these offsets, by partition, as far as the log keeps them."""
        chunks = [(self._ts, self._fingerprints), *_read_slate_actions(log, ranges)]
        ts, fingerprints = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        fingerprints, first = np.unique(fingerprints, return_index=True)
        latest = np.argsort(ts[first], kind="stable")[-_MAX_ACTIONS:]
        self._load(ts[first][latest], fingerprints[latest])
        self._is_changed = True

    def mask(self, queries: Queries) -> np.ndarray | None:
        """Which entries of the histories, (h,) bool, are struck; None if none is."""
        begin, end = self._ts_range
        entries = np.flatnonzero((queries.history_ts >= begin) & (queries.history_ts <= end))
        if entries.size == 0:
            return None
        user = np.repeat(queries.user, np.diff(queries.history_start))[entries]
        item, kind, ts = queries.history_item[entries], queries.history_type[entries], queries.history_ts[entries]
        is_denied = np.zeros(queries.history_ts.size, np.bool_)
        is_denied[entries] = self._index.lookup(_fingerprint(user, item, kind, ts)) >= 0
        return is_denied if is_denied.any() else None

    def state(self) -> State:
        return {"denylist_ts": self._ts, "denylist": self._fingerprints}

    def changes(self) -> State:
        """All of it, if anything was struck since the last call."""
        is_changed, self._is_changed = self._is_changed, False
        return self.state() if is_changed else {}

    def apply(self, changes: State) -> None:
        if "denylist" in changes:
            self._load(changes["denylist_ts"].copy(), changes["denylist"].copy())


def _read_slate_actions(log: EventLog, ranges: Ranges) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for partition, runs in ranges.items():
        for first, next_ in runs:
            offset = max(first, log.start_offset(EVENTS, int(partition)))
            while offset < next_ and len(
                records := log.read(EVENTS, int(partition), offset, min(_READ_RECORDS, next_ - offset))
            ):
                batch = decode_records(records, _NO_LIMITS).batch
                is_slate_action = (batch.type != EventType.impression) & (batch.impression != NO_KEY)
                batch = batch.take(np.flatnonzero(is_slate_action & (batch.offset < next_)))
                yield batch.ts, _fingerprint(batch.user, batch.item, batch.type, batch.ts)
                offset = records.offsets[-1] + 1


def _fingerprint(user: np.ndarray, item: np.ndarray, kind: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """(n,) uint64, never 0."""
    ts_and_type = ts.astype(np.uint64) * np.uint64(len(EventType)) + kind.astype(np.uint64)
    return _splitmix64_finalize(_splitmix64_finalize(_splitmix64_finalize(user) + item) + ts_and_type) | np.uint64(1)


def _splitmix64_finalize(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed_bits: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed_bits
