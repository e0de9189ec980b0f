"""Bursts and lulls are reported by event time; daily cycles and the reading speed are not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from online_models.guard.detectors.event_rate import EventRateDetector
from online_models.guard.findings import AlarmOnly, Finding
from stream.clock import MINUTE_MS
from stream.records.batches import EventType, Kind
from tests.support.batches import make_batch, make_lists, make_queries
from tests.support.observations import new_rows

START = 1_767_225_600_000
Rate = Callable[[int], float]  # events in a minute, by minute


class Traffic:
    """Users who see slates and act, read in blocks of several minutes."""

    def __init__(self, seed: int = 0, partitions: int = 1) -> None:
        self.detector, self.findings = EventRateDetector(), list[Finding]()
        self.next_offsets = dict.fromkeys(range(partitions), 0)
        self._rng, self._partitions = np.random.default_rng(seed), partitions

    def send(self, ts: np.ndarray, click_share: float = 0.4, users: int = 5_000, partition: int | None = None) -> None:
        n = ts.size
        is_click = self._rng.random(n) < click_share
        kinds = [Kind.action if clicked else Kind.shown for clicked in is_click.tolist()]
        queries = replace(make_queries(n, [[]] * n, ts), user=self._rng.integers(0, users, n).astype(np.uint64))
        batch = make_batch(kinds, queries, make_lists([[1]] * n, [[0.0]] * n), np.zeros(n, np.uint64))
        types = np.where(is_click, EventType.click, EventType.impression).astype(np.uint8)
        batch = replace(batch, type=types, ts=ts, offset=np.arange(n))
        partitions = self._rng.integers(0, self._partitions, n) if partition is None else np.full(n, partition)
        self.findings += self.detector.update(new_rows(batch, partitions, next_offsets=dict(self.next_offsets)))
        self.next_offsets = {p: offset + n for p, offset in self.next_offsets.items()}

    def run(self, rate: Rate, start: int, end: int, block: int = 1, **behavior: float) -> None:
        """Send minutes [start, end), `block` of them at once."""
        for begin in range(start, end, block):
            minutes = range(begin, min(end, begin + block))
            ts = [START + m * MINUTE_MS + self._rng.integers(0, MINUTE_MS, self._rng.poisson(rate(m))) for m in minutes]
            if (merged := np.sort(np.concatenate(ts))).size:
                self.send(merged, **behavior)  # type: ignore[arg-type]

    @property
    def kinds(self) -> set[tuple[str, str]]:
        return {(finding.subject, finding.kind) for finding in self.findings}


def steady(minute: int) -> float:
    return 200.0


def daily_cycle(minute: int) -> float:
    """300 a minute in the afternoon, 15 at night."""
    return float(15 + 285 * (0.5 - 0.5 * np.cos(2 * np.pi * minute / 1_440)) ** 2)


def opening_hours(minute: int) -> float:
    """A shop that opens at eight and closes at eight."""
    return 250.0 if 480 <= minute % 1_440 < 1_200 else 2.0


@pytest.fixture
def traffic() -> Traffic:
    """An hour of steady traffic."""
    traffic = Traffic()
    traffic.run(steady, 0, 60)
    return traffic


@pytest.mark.parametrize("block", [1, 7, 600])
@pytest.mark.parametrize("rate", [steady, daily_cycle])
def test_normal_days_raise_nothing_at_any_reading_speed(rate: Rate, block: int) -> None:
    traffic = Traffic()
    traffic.run(rate, 0, 2_880, block)

    assert traffic.findings == []


def test_daily_openings_raise_nothing_from_the_second_day_on() -> None:
    traffic = Traffic()
    traffic.run(opening_hours, 0, 1_440)
    traffic.findings.clear()
    traffic.run(opening_hours, 1_440, 3 * 1_440)

    assert traffic.findings == []


def test_crowds_with_normal_behavior_are_drift(traffic: Traffic) -> None:
    traffic.run(lambda minute: 1_500.0, 60, 63)

    assert {finding.detector for finding in traffic.findings} == {"event_rate"}
    assert traffic.kinds == {("burst", "drift")}


def test_three_times_the_events_are_no_burst(traffic: Traffic) -> None:
    traffic.run(lambda minute: 600.0, 60, 90)

    assert traffic.findings == []


def test_bursts_of_other_event_types_are_poison_within_a_minute(traffic: Traffic) -> None:
    first_offsets = dict(traffic.next_offsets)
    traffic.run(lambda minute: 1_500.0, 60, 61, click_share=0.95, users=3_000)

    [finding] = traffic.findings
    assert (finding.kind, finding.remedy, finding.first_offsets) == ("poison", AlarmOnly(), first_offsets)
    assert finding.evidence["events"] > 4 * finding.evidence["busiest_before"]


def test_bursts_with_more_events_per_user_are_poison() -> None:
    traffic = Traffic()
    traffic.run(steady, 0, 60, users=150)
    traffic.run(lambda minute: 1_500.0, 60, 61, users=150)

    assert [(finding.subject, finding.kind) for finding in traffic.findings] == [("burst", "poison")]


def test_bursts_of_few_users_are_left_to_rate_limits(traffic: Traffic) -> None:
    traffic.run(lambda minute: 1_500.0, 60, 63, users=20)

    assert traffic.findings == []


def test_lulls_are_poison(traffic: Traffic) -> None:
    traffic.run(lambda minute: 6.0, 60, 90)

    assert traffic.kinds == {("lull", "poison")}
    assert traffic.findings[0].evidence["expected"] == pytest.approx(1_000, rel=0.1)


def test_complete_stops_raise_nothing_when_events_return(traffic: Traffic) -> None:
    traffic.run(steady, 90, 150)

    assert traffic.findings == []


def test_partitions_read_one_after_the_other_raise_nothing() -> None:
    traffic = Traffic(partitions=16)
    traffic.run(lambda minute: 800.0, 0, 60)
    for partition in range(16):  # as after a restart
        for minute in range(60, 240):
            traffic.send(START + minute * MINUTE_MS + np.arange(0, MINUTE_MS, 1_200), partition=partition)

    assert traffic.findings == []


def test_nothing_is_reported_while_the_baseline_is_short() -> None:
    traffic = Traffic()
    traffic.run(steady, 0, 10)
    traffic.run(lambda minute: 3_000.0, 10, 13)

    assert traffic.findings == []
