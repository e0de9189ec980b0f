"""Denylist of single poisoned actions that no user history may contain."""

from collections.abc import Iterable

import numpy as np

from online_models.control import Ranges
from online_models.state.tables import State
from stream.ids import NO_KEY, KeyIndex, mix64
from stream.jit import kernel
from stream.logs import EventLog
from stream.records.batches import EventType, Queries
from stream.records.decoding import decode_records
from stream.records.events import Limits
from stream.records.signs import plain_types
from stream.topics import EVENTS

_READ_RECORDS = 4096
_NO_LIMITS = Limits(max_age=0, max_skew=1e12, max_bytes=1 << 40)


class ActionDenylist:
    """Match history entries by fingerprints of user, item, type and time."""

    def __init__(self, max_actions: int = 1 << 20) -> None:
        self._max_actions = max_actions  # the latest are kept
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
        """Add the actions on slates among the events at these offsets, as far as the log keeps them."""
        chunks = [(self._ts, self._fingerprints), *_read_slate_actions(log, ranges)]
        ts, fingerprints = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        fingerprints, first = np.unique(fingerprints, return_index=True)
        latest = np.argsort(ts[first], kind="stable")[-self._max_actions :]
        self._load(ts[first][latest], fingerprints[latest])
        self._is_changed = True

    def mask(self, queries: Queries) -> np.ndarray:
        """Return the mask of denied history entries, (h,) bool."""
        is_denied = np.zeros(queries.history_ts.size, np.bool_)
        begin, end = self._ts_range
        entries = np.flatnonzero((queries.history_ts >= begin) & (queries.history_ts <= end))
        if not entries.size:
            return is_denied
        user = np.repeat(queries.user, np.diff(queries.history_start))[entries]
        item, kind, ts = (
            queries.history_item[entries],
            plain_types(queries.history_type[entries]),
            queries.history_ts[entries],
        )
        is_denied[entries] = self._index.lookup(_fingerprint(user, item, kind, ts)) >= 0
        return is_denied

    def state(self) -> State:
        return {"denylist_ts": self._ts, "denylist": self._fingerprints}

    def changes(self) -> State:
        """The whole denylist, if it changed since the last call."""
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
    """Fingerprints, (n,) uint64, never 0."""
    fingerprints = np.empty(user.size, np.uint64)
    _mix_fields(user, item, kind, ts, np.uint64(len(EventType)), fingerprints)
    return fingerprints


@kernel
def _mix_fields(
    user: np.ndarray, item: np.ndarray, kind: np.ndarray, ts: np.ndarray, n_types: np.uint64, out: np.ndarray
) -> None:
    for i in range(user.size):
        ts_and_type = np.uint64(ts[i]) * n_types + np.uint64(kind[i])
        out[i] = mix64(mix64(mix64(user[i]) + item[i]) + ts_and_type) | np.uint64(1)
