"""Far more events than ever, or hardly any, are told by their own time; a day's tide and a reader's speed are not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from online_models.guard.detectors.event_rate import EventRateDetector
from online_models.guard.findings import Finding
from online_models.training.step import TrainingBatch
from stream.records.batches import EventType, Kind
from tests.support.batches import batch_of, lists, questions

START = 1_767_225_600_000
MINUTE = 60_000
Rate = Callable[[int], float]  # events in a minute, by minute


class Street:
    """People who see slates and act, so many a minute, read in blocks of so many minutes."""

    def __init__(self, seed: int = 0, partitions: int = 1) -> None:
        self.pace, self.found, self.seen = EventRateDetector(), list[Finding](), dict.fromkeys(range(partitions), 0)
        self._rng, self._partitions = np.random.default_rng(seed), partitions

    def send(self, ts: np.ndarray, clicks: float = 0.4, people: int = 5_000, partition: int | None = None) -> None:
        n = ts.size
        clicked = self._rng.random(n) < clicks
        kinds = [Kind.action if one else Kind.shown for one in clicked.tolist()]
        asked = replace(questions(n, [[]] * n, ts), user=self._rng.integers(0, people, n).astype(np.uint64))
        batch = batch_of(kinds, asked, lists([[1]] * n, [[0.0]] * n), np.zeros(n, np.uint64))
        types = np.where(clicked, EventType.click, EventType.impression).astype(np.uint8)
        place = self._rng.integers(0, self._partitions, n) if partition is None else np.full(n, partition)
        batch = replace(batch, type=types, ts=ts, offset=np.arange(n))
        self.found += self.pace.update(TrainingBatch(batch, place), np.ones(n, np.bool_), dict(self.seen))
        self.seen = {p: offset + n for p, offset in self.seen.items()}

    def go_on(self, rate: Rate, first: int, until: int, at_once: int = 1, **more: float) -> None:
        for begin in range(first, until, at_once):
            minutes = range(begin, min(until, begin + at_once))
            ts = [START + m * MINUTE + self._rng.integers(0, MINUTE, self._rng.poisson(rate(m))) for m in minutes]
            if (merged := np.sort(np.concatenate(ts))).size:
                self.send(merged, **more)  # type: ignore[arg-type]


def steady(minute: int) -> float:
    return 200.0


def tide(minute: int) -> float:
    """A day: 300 a minute in the afternoon, 15 at night."""
    return float(15 + 285 * (0.5 - 0.5 * np.cos(2 * np.pi * minute / 1_440)) ** 2)


def opening(minute: int) -> float:
    """A shop that opens at eight and closes at eight."""
    return 250.0 if 480 <= minute % 1_440 < 1_200 else 2.0


@pytest.mark.parametrize("at_once", [1, 7, 600])
@pytest.mark.parametrize("rate", [steady, tide])
def test_a_day_as_ever_is_not_told_at_whatever_speed_it_is_read(rate: Rate, at_once: int) -> None:
    street = Street()
    street.go_on(rate, 0, 2_880, at_once)

    assert street.found == []


def test_a_shop_that_opens_every_day_is_told_of_on_no_second_day() -> None:
    street = Street()
    street.go_on(opening, 0, 1_440)
    street.found.clear()
    street.go_on(opening, 1_440, 3 * 1_440)

    assert street.found == []


def test_a_crowd_that_does_what_people_do_is_drift() -> None:
    street = Street()
    street.go_on(steady, 0, 60)
    street.go_on(lambda minute: 1_500.0, 60, 63)

    assert {(one.detector, one.subject, one.kind) for one in street.found} == {("event_rate", "burst", "drift")}


def test_three_times_as_many_are_not_told() -> None:
    street = Street()
    street.go_on(steady, 0, 60)
    street.go_on(lambda minute: 600.0, 60, 90)

    assert street.found == []


def test_many_who_do_something_else_are_poison_within_a_minute() -> None:
    street = Street()
    street.go_on(steady, 0, 60)
    street.go_on(lambda minute: 1_500.0, 60, 61, clicks=0.95, people=3_000)

    [found] = street.found
    assert (found.kind, found.needs_rollback, found.first_offsets) == ("poison", False, street_seen(60))
    assert found.evidence["events"] > 4 * found.evidence["busiest_before"]


def street_seen(minutes: int) -> dict[int, int]:
    """The offset that the steady street has come to."""
    street = Street()
    street.go_on(steady, 0, minutes)
    return street.seen


def test_as_many_people_who_each_send_far_more_are_poison() -> None:
    street = Street()
    street.go_on(steady, 0, 60, people=150)
    street.go_on(lambda minute: 1_500.0, 60, 61, people=150)

    assert [(one.subject, one.kind) for one in street.found] == [("burst", "poison")]


def test_a_few_people_are_the_actor_screens_to_judge() -> None:
    street = Street()
    street.go_on(steady, 0, 60)
    street.go_on(lambda minute: 1_500.0, 60, 63, people=20)

    assert street.found == []


def test_when_hardly_anything_comes_any_more_it_is_told() -> None:
    street = Street()
    street.go_on(steady, 0, 60)
    street.go_on(lambda minute: 6.0, 60, 90)

    assert {(one.subject, one.kind) for one in street.found} == {("lull", "poison")}
    assert street.found[0].evidence["expected"] == pytest.approx(1_000, rel=0.1)


def test_when_everything_stops_and_comes_back_nothing_is_told() -> None:
    street = Street()
    street.go_on(steady, 0, 60)
    street.go_on(steady, 90, 150)

    assert street.found == []


def test_partitions_that_are_read_one_behind_the_other_raise_nothing() -> None:
    street = Street(partitions=16)
    street.go_on(lambda minute: 800.0, 0, 60)
    for partition in range(16):  # as after a restart: each is read as far as it goes, in turn
        for minute in range(60, 240):
            ts = START + minute * MINUTE + np.arange(0, MINUTE, 1_200)
            street.send(ts, partition=partition)

    assert street.found == []


def test_nothing_is_told_before_enough_is_known() -> None:
    street = Street()
    street.go_on(steady, 0, 10)
    street.go_on(lambda minute: 3_000.0, 10, 13)

    assert street.found == []
