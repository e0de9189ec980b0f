"""Compare the detectors with River's ADWIN, Page–Hinkley and KSWIN and with dummies.

python -m benchmarks.guard.detector_comparison [--seeds 2] [--hours 4]

All detectors get the per-minute values of the live guard, from clean hours and from scenarios with a known start.
River's detectors get, in hindsight, the settings that detect most scenarios without a false alarm in one half of the
clean hours; false alarms are counted on the other half.
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
from online_models.guard.detector_suite import DetectorSuite
from online_models.guard.findings import Finding
from online_models.guard.robust_stats import MedianBaseline, psi
from replay.simulation.guard_trials import InProcessSystem
from replay.simulation.scenarios import SCENARIOS, Scenario, run_scenario
from stream.clock import MINUTE_MS
from stream.config import GuardSettings
from stream.logs import EventLog
from stream.records.batches import EventType

_MINUTES_PER_DAY = 1440.0
_WARMUP_BINS = 20
_WARMUP, _DURATION = 40.0, 25.0  # minutes
_CLEAN_SCENARIO = SCENARIOS[0]
_POISON_NAMES = ("broken button", "label flip 5 %", "skewed clock", "lost surface")
_SCENARIO_NAMES = (*_POISON_NAMES, "preference shift", "seasonal cycle", "new catalog", "viral item")
Streams = dict[str, np.ndarray]  # by name, (bins,) float64
DetectorFactory = Callable[[], base.DriftDetector]
FireFunction = Callable[[Streams], list[int]]  # returns the bins with an alarm


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """Values that the guard saw in a run, and its findings."""

    bin_end_minutes: np.ndarray  # (bins,) from the start of the run
    streams: Streams
    finding_bins: list[int]  # bins with a finding of the guard
    start_minute: float  # start of the scenario; inf without one


class _RecordingSuite(DetectorSuite):
    """Detector suite that records its bins and the findings on them."""

    def __init__(self, false_alarms: float, log: EventLog) -> None:
        super().__init__(false_alarms, log)
        self.bins: list[Bin] = []
        self.finding_bins: list[int] = []

    def update_bin(self, current: Bin) -> list[Finding]:
        self.bins.append(deepcopy(current))
        findings = super().update_bin(current)
        self.finding_bins += [len(self.bins) - 1] * bool(findings)
        return findings


def record_run(scenario: Scenario, seed: int, warmup: float, duration: float) -> RecordedRun:
    """Run a scenario with alarms only: remedies would change the data of the other detectors."""
    with tempfile.TemporaryDirectory() as folder:
        system = InProcessSystem(Path(folder), GuardSettings(auto_remediate=False))
        suite = _RecordingSuite(1.0, system.log)
        assert system.learn_worker.guard
        system.learn_worker.guard.suite = suite
        pending, start, start_minute = [], 0, float("inf")
        for is_active, events in run_scenario(scenario, seed, 2.0, warmup, duration):
            start = start or events[0]["ts"]
            if is_active:
                start_minute = min(start_minute, (events[0]["ts"] - start) / MINUTE_MS)
            pending += events
            if len(pending) >= 64:
                system.send_events(pending)
                pending = []
        system.close()
    minute = np.array([(bin_.end - start) / MINUTE_MS for bin_ in suite.bins])
    return RecordedRun(minute, extract_streams(suite.bins), suite.finding_bins, start_minute)


def extract_streams(bins: Sequence[Bin]) -> Streams:
    """Compute the values behind the detectors, each a ratio or a mean per bin."""
    purchases = np.array(
        [sum(n for (_, kind), n in bin_.action_counts.items() if kind == EventType.purchase) for bin_ in bins]
    )
    buckets = np.array([bin_.item_buckets for bin_ in bins])
    item_drift = [
        psi(buckets[max(0, i - 60) : i - 4].sum(axis=0), buckets[i - 4 : i + 1].sum(axis=0))
        if i >= _WARMUP_BINS
        else 0.0
        for i in range(len(bins))
    ]
    return {
        "purchases": purchases / [max(1, bin_.impressions + bin_.actions) for bin_ in bins],
        "missing surface": np.array([bin_.missing_surface / max(1, bin_.impressions) for bin_ in bins]),
        "late": np.array([(bin_.late - bin_.very_late) / max(1, bin_.rows) for bin_ in bins]),
        "loss": np.array([bin_.log_loss_sum / max(1, bin_.closed_items) for bin_ in bins]),
        "calibration": np.array([bin_.observed_clicks / max(1e-9, bin_.expected_clicks) for bin_ in bins]),
        "click rank": np.array([bin_.click_rank_sum / max(1, bin_.slate_clicks) for bin_ in bins]),
        "click-through": np.array([bin_.slate_clicks / max(1, bin_.impressions) for bin_ in bins]),
        "items": np.array(item_drift),
    }


def make_fire_function(make: DetectorFactory, standardize: bool) -> FireFunction:
    """Run one detector of River per stream, on its values or on robust z-scores."""

    def fires(streams: Streams) -> list[int]:
        fired_bins: set[int] = set()
        for values in streams.values():
            detector = make()
            for i, value in enumerate(_compute_z_scores(values) if standardize else values.tolist()):
                detector.update(value)
                if detector.drift_detected and i >= _WARMUP_BINS:
                    fired_bins.add(i)
        return sorted(fired_bins)

    return fires


def _compute_z_scores(values: np.ndarray) -> Iterator[float]:
    baseline = MedianBaseline(_WARMUP_BINS)
    for value in values.tolist():
        z = baseline.update(value)
        # A constant history has a scale of 0, which makes every other value infinitely unlikely.
        yield 0.0 if z is None else float(np.clip(z, -10, 10))


def select_best(
    factories: Sequence[tuple[str, DetectorFactory]], clean: RecordedRun, runs: dict[str, list[RecordedRun]]
) -> tuple[str, FireFunction]:
    """Select, in hindsight, the setting without false alarms on clean data that detects most."""
    settings = [(name, make_fire_function(make, False)) for name, make in factories]
    settings += [(f"{name}, of z-scores", make_fire_function(make, True)) for name, make in factories]
    quiet_settings = [(name, fires) for name, fires in settings if not fires(clean.streams)]

    def count_detected(fires: FireFunction) -> int:
        scenario_runs = [run for subject in _POISON_NAMES for run in runs[subject]]
        return sum(bool((run.bin_end_minutes[fires(run.streams)] >= run.start_minute).any()) for run in scenario_runs)

    return max(quiet_settings or settings[-1:], key=lambda setting: count_detected(setting[1]))


def format_row(name: str, fires: FireFunction | None, runs: dict[str, list[RecordedRun]], clean: RecordedRun) -> str:
    """Format a row: median delay per scenario, false alarms per day and F1."""

    def fire_minutes(run: RecordedRun) -> np.ndarray:
        return run.bin_end_minutes[run.finding_bins if fires is None else fires(run.streams)]

    false_alarms, minutes = fire_minutes(clean).size, clean.bin_end_minutes[-1]
    detected, missed, cells = 0, 0, []
    for subject, scenario_runs in runs.items():
        delays = []
        for run in scenario_runs:
            alarms = fire_minutes(run)
            false_alarms, minutes = false_alarms + int((alarms < run.start_minute).sum()), minutes + run.start_minute
            true_alarms = alarms[alarms >= run.start_minute]
            delays += [float(true_alarms[0] - run.start_minute)] if true_alarms.size else []
        if subject in _POISON_NAMES:
            detected, missed = detected + len(delays), missed + len(scenario_runs) - len(delays)
        cells.append(f"{np.median(delays):.1f} ({len(delays)} of {len(scenario_runs)})" if delays else "–")
    f1 = 2 * detected / max(1, 2 * detected + missed + false_alarms)
    return f"| {name} | " + " | ".join(cells) + f" | {false_alarms / minutes * _MINUTES_PER_DAY:.1f} | {f1:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--hours", type=float, default=4.0, help="clean hours for tuning, and as many for testing")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    tuning_run, clean = (record_run(_CLEAN_SCENARIO, seed, 60 * arguments.hours, 0) for seed in (1, 2))
    subjects = [scenario for scenario in SCENARIOS if scenario.name in _SCENARIO_NAMES]
    runs = {
        scenario.name: [record_run(scenario, 3 + seed, _WARMUP, _DURATION) for seed in range(arguments.seeds)]
        for scenario in subjects
    }
    adwin = [
        (f"ADWIN, δ {d:g}", lambda d=d: drift.ADWIN(delta=d, clock=1, grace_period=5))
        for d in 10.0 ** -np.arange(1, 13)
    ]
    hinkley = [
        (f"Page–Hinkley, λ {t}", lambda t=t: drift.PageHinkley(min_instances=_WARMUP_BINS, delta=0.5, threshold=t))
        for t in (2, 4, 6, 8, 12, 16, 24, 32)
    ]
    kswin = [
        (f"KSWIN, α {a:g}", lambda a=a: drift.KSWIN(alpha=a, window_size=60, stat_size=10, seed=1))
        for a in 10.0 ** -np.arange(2, 12)
    ]
    rows: list[tuple[str, FireFunction | None]] = [("Headrace", None)]
    rows += [select_best(factories, tuning_run, runs) for factories in (adwin, hinkley, kswin)]
    rows += [
        ("River's ADWIN (defaults)", make_fire_function(drift.ADWIN, False)),
        ("River's Page–Hinkley (defaults)", make_fire_function(drift.PageHinkley, False)),
        ("River's KSWIN (defaults)", make_fire_function(lambda: drift.KSWIN(seed=1), False)),
        ("always", lambda streams: list(range(len(streams["loss"])))),
        ("never", lambda streams: []),
        ("every hour", lambda streams: list(range(59, len(streams["loss"]), 60))),
    ]
    print("| detector | " + " | ".join(runs) + " | false alarms/day | F1 |")
    print("|---|" + "---|" * (len(runs) + 2))
    for name, fires in rows:
        print(format_row(name, fires, runs, clean), flush=True)


if __name__ == "__main__":
    main()
