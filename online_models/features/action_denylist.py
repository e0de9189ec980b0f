"""Single actions on slates that do not count in anybody's past: they are poison, whoever's name they bear."""

from collections.abc import Iterable

import numpy as np

from online_models.state.tables import State
from stream.ids import NO_KEY, KeyIndex
from stream.logs import EventLog
from stream.records.batches import EventType, Questions
from stream.records.decoding import take_in
from stream.records.events import Limits
from stream.topics import EVENTS

Ranges = dict[str, list[tuple[int, int]]]

_MOST = 1 << 20  # actions that are known, the latest
_READ = 4096
_ANY = Limits(max_age=0, max_skew=1e12, max_bytes=1 << 40)


class Struck:
    """Knows actions by a fingerprint of person, item, type and time, which is all that a history keeps of them."""

    def __init__(self) -> None:
        self._become(np.zeros(0, np.int64), np.zeros(0, np.uint64))
        self._changed = False

    def _become(self, ts: np.ndarray, fingerprints: np.ndarray) -> None:
        self._ts, self._fingerprints = ts, fingerprints
        self._index = KeyIndex(max(1, ts.size))
        self._index.number(fingerprints, 0)
        self._span = (int(ts.min()), int(ts.max())) if ts.size else (0, -1)

    def __len__(self) -> int:
        return int(self._ts.size)

    def strike(self, log: EventLog, ranges: Ranges) -> None:
        """Add the actions on slates among the events at these offsets, by partition, as far as the log keeps them."""
        found = [(self._ts, self._fingerprints), *_actions_in(log, ranges)]
        ts, fingerprints = (np.concatenate(parts) for parts in zip(*found, strict=True))
        fingerprints, first = np.unique(fingerprints, return_index=True)
        latest = np.argsort(ts[first], kind="stable")[-_MOST:]
        self._become(ts[first][latest], fingerprints[latest])
        self._changed = True

    def among(self, questions: Questions) -> np.ndarray | None:
        """Which entries of the histories, (h,) bool, are struck; None if none is."""
        begin, end = self._span
        near = np.flatnonzero((questions.history_ts >= begin) & (questions.history_ts <= end))
        if near.size == 0:
            return None
        user = np.repeat(questions.user, np.diff(questions.history_start))[near]
        item, kind, ts = questions.history_item[near], questions.history_type[near], questions.history_ts[near]
        struck = np.zeros(questions.history_ts.size, np.bool_)
        struck[near] = self._index.find(_fingerprints(user, item, kind, ts)) >= 0
        return struck if struck.any() else None

    def state(self) -> State:
        return {"struck_ts": self._ts, "struck": self._fingerprints}

    def changes(self) -> State:
        """All of it, if anything was struck since the last call."""
        changed, self._changed = self._changed, False
        return self.state() if changed else {}

    def apply(self, changes: State) -> None:
        if "struck" in changes:
            self._become(changes["struck_ts"].copy(), changes["struck"].copy())


def _actions_in(log: EventLog, ranges: Ranges) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for partition, runs in ranges.items():
        for first, next_ in runs:
            at = max(first, log.start(EVENTS, int(partition)))
            while at < next_ and len(records := log.read(EVENTS, int(partition), at, min(_READ, next_ - at))):
                batch = take_in(records, _ANY).batch
                acted = (batch.type != EventType.impression) & (batch.impression != NO_KEY)
                batch = batch.take(np.flatnonzero(acted & (batch.offset < next_)))
                yield batch.ts, _fingerprints(batch.user, batch.item, batch.type, batch.ts)
                at = records.offsets[-1] + 1


def _fingerprints(user: np.ndarray, item: np.ndarray, kind: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """(n,) uint64, never 0."""
    moment = ts.astype(np.uint64) * np.uint64(len(EventType)) + kind.astype(np.uint64)
    return _mixed(_mixed(_mixed(user) + item) + moment) | np.uint64(1)


def _mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
