"""Headrace's monitors beside River's ADWIN, Page–Hinkley and KSWIN, and beside dummies, on the same streams.

python -m benchmarks.guard.detector_comparison [--seeds 2] [--hours 4]

Every detector sees, minute by minute, the numbers that the live learner's guard sees: of clean hours, and of scenarios
whose beginning is known. River's are set, by hindsight, to what notices most without a false alarm in one half of the
clean hours; all are counted on the other half.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from river import base, drift

from online_models.guard.bins import Bin
from online_models.guard.detector_suite import Monitors
from online_models.guard.findings import Finding
from online_models.guard.robust_stats import Level, psi
from replay.simulation.guard_trials import Rig
from replay.simulation.scenarios import SCENARIOS, Scenario, play
from stream.config import Guard
from stream.records.batches import EventType

_DAY = 1440.0  # minutes
_WARM = 20  # bins
_CALM, _LENGTH = 40.0, 25.0  # minutes
_CLEAN = SCENARIOS[0]
_POISON = ("broken button", "label flip 5 %", "skewed clock", "lost surface")
_SUBJECTS = (*_POISON, "taste flip", "seasonal cycle", "new catalogue", "viral item")
Streams = dict[str, np.ndarray]  # by name, one number per bin
Make = Callable[[], base.DriftDetector]
Fires = Callable[[Streams], list[int]]  # the bins in which a detector fires


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the guard saw of a run, and what it made of it."""

    minute: np.ndarray  # (bins,) end of each, from the beginning
    streams: Streams
    found: list[int]  # bins in which the monitors told something
    began: float  # minute, inf if nothing happened


class _Listener(Monitors):
    """The monitors of a guard, that also write down what they see."""

    def __init__(self, false_alarms: float) -> None:
        super().__init__(false_alarms)
        self.bins: list[Bin] = []
        self.found: list[int] = []

    def see(self, now: Bin) -> list[Finding]:
        self.bins.append(deepcopy(now))
        found = super().see(now)
        self.found += [len(self.bins) - 1] * bool(found)
        return found


def record(scenario: Scenario, seed: int, calm: float, length: float) -> Recorded:
    """Play a scenario to the live processes, with alarms but no remedies: all detectors are to see the same."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), Guard(remedy=False))
        listener = _Listener(1.0)
        assert rig.learn._guard
        rig.learn._guard._monitors = listener
        waiting, start, began = [], 0, float("inf")
        for on, events in play(scenario, seed, 2.0, calm, length):
            start = start or events[0]["ts"]
            if on:
                began = min(began, (events[0]["ts"] - start) / 60_000)
            waiting += events
            if len(waiting) >= 64:
                rig.send(waiting)
                waiting = []
        rig.close()
    minute = np.array([(one.end - start) / 60_000 for one in listener.bins])
    return Recorded(minute, streams_of(listener.bins), listener.found, began)


def streams_of(bins: Sequence[Bin]) -> Streams:
    """The numbers behind the monitors, each as a share or a mean per bin."""
    bought = np.array([sum(n for (_, kind), n in one.acted.items() if kind == EventType.purchase) for one in bins])
    buckets = np.array([one.buckets for one in bins])
    moved = [
        psi(buckets[max(0, i - 60) : i - 4].sum(axis=0), buckets[i - 4 : i + 1].sum(axis=0)) if i >= _WARM else 0.0
        for i in range(len(bins))
    ]
    return {
        "bought": bought / [max(1, one.shown + one.actions) for one in bins],
        "no surface": np.array([one.unplaced / max(1, one.shown) for one in bins]),
        "late": np.array([(one.late - one.lost) / max(1, one.rows) for one in bins]),
        "loss": np.array([one.loss / max(1, one.places) for one in bins]),
        "calibration": np.array([one.taken / max(1e-9, one.expected) for one in bins]),
        "place of answers": np.array([one.places_of_answers / max(1, one.answers) for one in bins]),
        "answers": np.array([one.answers / max(1, one.shown) for one in bins]),
        "items": np.array(moved),
    }


def each(make: Make, standardised: bool) -> Fires:
    """A detector of River on every stream by itself; `standardised`: it sees robust z-scores instead of numbers."""

    def fires(streams: Streams) -> list[int]:
        found: set[int] = set()
        for values in streams.values():
            detector = make()
            for i, value in enumerate(_z_of(values) if standardised else values.tolist()):
                detector.update(value)
                if detector.drift_detected and i >= _WARM:
                    found.add(i)
        return sorted(found)

    return fires


def _z_of(values: np.ndarray) -> Iterator[float]:
    level = Level(_WARM)
    for value in values.tolist():
        z = level.see(value)
        # Two minutes without a single late event make a spread of 0, and any number infinitely odd.
        yield 0.0 if z is None else float(np.clip(z, -10, 10))


def best(makes: Sequence[tuple[str, Make]], clean: Recorded, runs: dict[str, list[Recorded]]) -> tuple[str, Fires]:
    """Of the settings that raise no false alarm on clean hours the one that notices most, by hindsight: River's due."""
    settings = [(name, each(make, False)) for name, make in makes]
    settings += [(f"{name}, of z-scores", each(make, True)) for name, make in makes]
    quiet = [(name, fires) for name, fires in settings if not fires(clean.streams)]

    def noticed(fires: Fires) -> int:
        ones = [one for subject in _POISON for one in runs[subject]]
        return sum(bool((one.minute[fires(one.streams)] >= one.began).any()) for one in ones)

    return max(quiet or settings[-1:], key=lambda setting: noticed(setting[1]))


def judged(name: str, fires: Fires | None, runs: dict[str, list[Recorded]], clean: Recorded) -> str:
    """A line of the table: what was noticed of each scenario and when, and how often it was wrong."""

    def fired(one: Recorded) -> np.ndarray:
        return one.minute[one.found if fires is None else fires(one.streams)]

    wrong, minutes = fired(clean).size, clean.minute[-1]
    noticed, missed, cells = 0, 0, []
    for subject, ones in runs.items():
        delays = []
        for one in ones:
            alarms = fired(one)
            wrong, minutes = wrong + int((alarms < one.began).sum()), minutes + one.began
            late = alarms[alarms >= one.began]
            delays += [float(late[0] - one.began)] if late.size else []
        if subject in _POISON:
            noticed, missed = noticed + len(delays), missed + len(ones) - len(delays)
        cells.append(f"{np.median(delays):.1f} ({len(delays)} of {len(ones)})" if delays else "–")
    f1 = 2 * noticed / max(1, 2 * noticed + missed + wrong)
    return f"| {name} | " + " | ".join(cells) + f" | {wrong / minutes * _DAY:.1f} | {f1:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--hours", type=float, default=4.0, help="clean, to set thresholds by; as many to test")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    tuned, clean = (record(_CLEAN, seed, 60 * asked.hours, 0) for seed in (1, 2))
    subjects = [one for one in SCENARIOS if one.name in _SUBJECTS]
    runs = {one.name: [record(one, 3 + seed, _CALM, _LENGTH) for seed in range(asked.seeds)] for one in subjects}
    adwin = [
        (f"ADWIN, δ {d:g}", lambda d=d: drift.ADWIN(delta=d, clock=1, grace_period=5))
        for d in 10.0 ** -np.arange(1, 13)
    ]
    hinkley = [
        (f"Page–Hinkley, λ {t}", lambda t=t: drift.PageHinkley(min_instances=_WARM, delta=0.5, threshold=t))
        for t in (2, 4, 6, 8, 12, 16, 24, 32)
    ]
    kswin = [
        (f"KSWIN, α {a:g}", lambda a=a: drift.KSWIN(alpha=a, window_size=60, stat_size=10, seed=1))
        for a in 10.0 ** -np.arange(2, 12)
    ]
    rows: list[tuple[str, Fires | None]] = [("Headrace", None)]
    rows += [best(makes, tuned, runs) for makes in (adwin, hinkley, kswin)]
    rows += [
        ("River's ADWIN as it comes", each(drift.ADWIN, False)),
        ("River's Page–Hinkley as it comes", each(drift.PageHinkley, False)),
        ("River's KSWIN as it comes", each(lambda: drift.KSWIN(seed=1), False)),
        ("always", lambda streams: list(range(len(streams["loss"])))),
        ("never", lambda streams: []),
        ("every hour", lambda streams: list(range(59, len(streams["loss"]), 60))),
    ]
    print("| detector | " + " | ".join(runs) + " | false a day | F1 |")
    print("|---|" + "---|" * (len(runs) + 2))
    for name, fires in rows:
        print(judged(name, fires, runs, clean), flush=True)


if __name__ == "__main__":
    main()
