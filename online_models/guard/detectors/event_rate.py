"""How many events come in a minute of event time: far more than ever, or hardly any."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.guard.findings import Finding
from online_models.training.step import Lesson
from stream.records.batches import EventType, Kind

_MINUTE_MS, _DAY = 60_000, 1_440  # minutes
_KEPT = _DAY + 90  # minutes
_MORE = 4.0  # times the busiest minute of
_BACK, _APART = 120, 3  # the two hours before, less the last minutes, in which it may have begun
_MANY, _PEOPLE = 300, 50  # events, and people they are of, below which a minute is no burst
_LESS = 0.1  # of what is usual
_SPAN, _LATE = 5, 5  # minutes that are judged, once so many more have passed
_HOUR, _KNOWN = 60, 20  # minutes beside which they are judged, and how many of them must be known
_ENOUGH = 100  # events to be expected in them
_OTHER = 0.4  # distance between shares of types, half the sum of what differs
_BUSIER = 3.0  # times as many events a person
_CELLS = 1 << 13


@dataclass(slots=True)
class Minute:
    """What came in a minute of event time."""

    first: dict[int, int]  # offset of its first event at the latest, by partition
    most: int | None = None  # of a minute before it, once that was asked for; None: not asked yet
    events: int = 0
    types: np.ndarray = field(default_factory=lambda: np.zeros(len(EventType), np.int64))  # events by type
    cells: np.ndarray | None = field(default_factory=lambda: np.zeros(_CELLS, np.bool_))
    counted: int = 0  # people, once nothing more is expected

    def add(self, types: np.ndarray, users: np.ndarray) -> None:
        self.events += types.size
        self.types += np.bincount(types, minlength=len(EventType))
        if self.cells is not None:
            self.cells[(users & np.uint64(_CELLS - 1)).astype(np.int64)] = True

    @property
    def people(self) -> int:
        """How many there were, about: linear counting (Whang, Vander-Zanden and Taylor 1990)."""
        if self.cells is None:
            return self.counted
        empty = max(1, _CELLS - int(np.count_nonzero(self.cells)))
        return round(-_CELLS * math.log(empty / _CELLS))

    def close(self) -> None:
        self.counted, self.cells = self.people, None


class Pace:
    """Judges by event time alone: however fast a log is read, it raises what it would have raised live.

    Each minute stands beside the hours before it, and what looks odd beside the same time of the day before, since a
    shop that opens at eight opens every day. A silence of everything moves no event time, and cannot be seen here.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, Minute] = {}
        self._tops: dict[int, int] = {}  # latest minute, by partition
        self._begun = 2**62  # the first minute that is known
        self._judged = 0  # the last minute up to which a lull was looked for

    def see(self, lesson: Lesson, fresh: np.ndarray, seen: dict[int, int]) -> list[Finding]:
        """Add the fresh events; `seen`: next offset of the events before them, by partition."""
        batch = lesson.batch
        rows = np.flatnonzero(fresh & ((batch.kind == Kind.shown) | (batch.kind == Kind.action)))
        if not rows.size:
            return []
        minute, found = batch.ts[rows] // _MINUTE_MS, []
        self._reach(minute, lesson.partition[rows])
        oldest = max(self._tops.values()) - _KEPT
        for at in np.unique(minute).tolist():
            here = rows[minute == at]
            if at > oldest:
                self._minute(at, seen).add(batch.type[here], batch.questions.user[here])
                found += self._burst(at)
        # Partitions are not read evenly after a restart: half of them have to have come so far.
        tops = sorted(self._tops.values())
        if (until := tops[(len(tops) - 1) // 2] - _LATE) > self._judged:
            found += self._lull(until)
            self._tidy(until, oldest)
            self._judged = until
        return found

    def _reach(self, minute: np.ndarray, partition: np.ndarray) -> None:
        for p in np.unique(partition).tolist():
            self._tops[p] = max(self._tops.get(p, 0), int(minute[partition == p].max()))
        self._begun = min(self._begun, int(minute.min()))

    def _minute(self, at: int, seen: dict[int, int]) -> Minute:
        if at not in self._minutes:
            self._minutes[at] = Minute(dict(seen))
        return self._minutes[at]

    def _tidy(self, until: int, oldest: int) -> None:
        for minute in self._span(max(self._judged, until - _KEPT), until):
            if minute.cells is not None:
                minute.close()
        while (first := next(iter(self._minutes))) <= oldest:
            del self._minutes[first]

    def _span(self, first: int, until: int) -> list[Minute]:
        return [self._minutes[at] for at in range(first, until) if at in self._minutes]

    def _burst(self, at: int) -> list[Finding]:
        now = self._minutes[at]
        if now.events < _MANY:
            return []
        if now.most is None or now.events > _MORE * now.most:
            now.most = self._most(at)  # once more: other partitions may have come so far meanwhile
        if not now.most or now.events <= _MORE * now.most or now.people < _PEOPLE:
            return []
        return [_burst_of(now, self._span(at - _BACK, at - _APART))]

    def _most(self, at: int) -> int:
        """Events of the busiest minute of the hours before, and of about this time yesterday; 0: too little known."""
        before = self._span(at - _BACK, at - _APART)
        yesterday = self._span(at - _DAY - _HOUR, at - _DAY + _HOUR)
        return max(one.events for one in before + yesterday) if len(before) >= _KNOWN else 0

    def _lull(self, until: int) -> list[Finding]:
        counted, expected = self._beside(until)
        heard = self._span(until - _SPAN, until)
        if expected < _ENOUGH or counted > _LESS * expected or len(heard) < _SPAN // 2:
            return []
        alike, usual = self._beside(until - _DAY)
        if usual and alike < 3 * _LESS * usual:
            return []
        reason = "hardly anything comes any more, of any kind: most of what sends events is gone"
        evidence = {"reason": reason, "events": counted, "expected": round(expected)}
        return [Finding("stream", "poison", "event_rate", "lull", evidence, heard[0].first)]

    def _beside(self, until: int) -> tuple[int, float]:
        """Events of the minutes before, and how many the hour before those leads one to expect; 0: too little known."""
        hour = range(max(self._begun, until - _SPAN - _HOUR), until - _SPAN)
        known = sorted(self._minutes[at].events if at in self._minutes else 0 for at in hour)
        counted = sum(one.events for one in self._span(until - _SPAN, until))
        return counted, _SPAN * float(known[len(known) // 2]) if len(known) >= _KNOWN else 0.0


def _burst_of(now: Minute, before: list[Minute]) -> Finding:
    """Whether those who come do what people do: the same kinds of things, as much each."""
    usual = np.sum([one.types for one in before], axis=0)
    apart = float(np.abs(now.types / now.events - usual / usual.sum()).sum() / 2)
    each = now.events / max(1, now.people)
    busier = each / float(np.median([one.events / max(1, one.people) for one in before]))
    alike = apart < _OTHER and busier < _BUSIER
    words = "and do what people do" if alike else "and do not do what people do here"
    evidence = {
        "reason": f"far more events come than ever, {words}",
        "events": now.events,
        "busiest_before": now.most,
        "people": now.people,
        "types_apart": round(apart, 2),
        "events_each": round(each, 1),
    }
    return Finding("stream", "drift" if alike else "poison", "event_rate", "burst", evidence, now.first)
