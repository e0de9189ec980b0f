"""Detection, false alarms and recovery of the guard, on scenarios and recorded logs.

python -m benchmarks.guard.guard_scenarios                          # all scenarios, three seeds each
python -m benchmarks.guard.guard_scenarios --clean 24 --seeds 2     # 24 clean hours of two simulated shops each
python -m benchmarks.guard.guard_scenarios --recorded FILE.jsonl.gz …
python -m benchmarks.guard.guard_scenarios --recovery               # Recall@10 after poison and remedies
"""

import argparse
import gzip
import logging
import tempfile
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.guard.false_alarms import format_table
from replay.simulation.guard_trials import InProcessSystem, TrialResult, run_trial
from replay.simulation.poison_recovery import run_recovery
from replay.simulation.scenarios import SCENARIOS
from stream.alarms import read_alarms
from stream.clock import DAY_MS
from stream.quarantine import list_quarantined

_BATCH_SIZE = 512  # events per step
_POISON_MINUTES = {  # duration of each scenario
    "click flood": 5.0,
    "pumping group": 5.0,
    "shilling group": 5.0,
    "coordinated group": 5.0,
    "label flip 5 %": 5.0,
    "label flip 30 %": 15.0,
}


def measure_scenarios(seeds: int, names: list[str], attribution_window: float) -> None:
    """Print one line per scenario and the confusion matrix of alarm kinds."""
    print("| scenario | truth | detected | as | detectors | minutes to alarm | events to alarm | rolled back |")
    print("|---|---|---|---|---|---|---|---|")
    confusion: Counter[tuple[str, str]] = Counter()
    for scenario in SCENARIOS:
        if names and scenario.name not in names:
            continue
        linger = 6.0 if scenario.truth == "poison" and scenario.duration_minutes > 30 else 1e9
        results = [
            run_trial(scenario, seed, linger=linger, attribution_window=attribution_window)
            for seed in range(1, seeds + 1)
        ]
        confusion.update((scenario.truth, _classify(result)) for result in results)
        print(_format_row(scenario.name, scenario.truth, results), flush=True)
    print("\n| truth | poison | drift | nothing |\n|---|---|---|---|")
    for truth in ("poison", "genuine", "clean"):
        print(
            f"| {truth} | " + " | ".join(str(confusion[truth, kind]) for kind in ("poison", "drift", "nothing")) + " |"
        )


def measure_clean(hours: float, seeds: int, attribution_window: float) -> None:
    """Print the false alarms by detector on simulated hours without a scenario."""
    alarm_counts: Counter[str] = Counter()
    for seed in range(1, seeds + 1):
        result = run_trial(SCENARIOS[0], seed, warmup=60 * hours, duration=0, attribution_window=attribution_window)
        alarm_counts.update(alarm.detector for alarm in result.alarms)
        print(
            f"seed {seed}: {hours:g} clean hours, {len(result.alarms)} alarms, {result.n_quarantined} quarantined",
            flush=True,
        )
    print("", *format_table(alarm_counts, seeds * hours / 24), sep="\n")


def measure_recovery(seeds: int, names: list[str]) -> None:
    """Print Recall@10 after an hour: without poison, with remedies, and with alarms only."""
    print("| scenario | clean | remedies | alarms only | loss with remedies | loss with alarms only | rollbacks |")
    print("|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        if scenario.name not in (names or _POISON_MINUTES):
            continue
        shortened = replace(scenario, duration_minutes=_POISON_MINUTES[scenario.name])
        results = [run_recovery(shortened, seed, duration=60.0) for seed in range(1, seeds + 1)]
        recall = np.array([(result.clean, result.guarded, result.unguarded) for result in results])
        means = " | ".join(f"{mean:.3f}" for mean in recall.mean(axis=0))
        losses = " | ".join(_format_loss(1 - recall[:, i] / recall[:, 0]) for i in (1, 2))
        rollbacks = sum(result.rollbacks for result in results)
        print(f"| {scenario.name} | {means} | {losses} | {rollbacks} |", flush=True)


def _format_loss(losses: np.ndarray) -> str:
    """Mean over shops ± two standard errors."""
    error = 2 * losses.std(ddof=1) / np.sqrt(losses.size) if losses.size > 1 else np.nan
    return f"{100 * losses.mean():.1f} ± {100 * error:.1f} %"


def measure_recorded(paths: list[Path], limit: int, attribution_window: float) -> None:
    """Print the alarms on recorded logs, by log and by detector."""
    print("| log | events | days | quarantined | alarms | detectors |\n|---|---|---|---|---|---|")
    alarm_counts, days = Counter[str](), 0.0
    for path in paths:
        counts, n_days = _measure_log(path, limit, attribution_window)
        alarm_counts, days = alarm_counts + counts, days + n_days
    print("", *format_table(alarm_counts, days), sep="\n")


def _measure_log(path: Path, limit: int, attribution_window: float) -> tuple[Counter[str], float]:
    """Count the alarms on a recorded log, all assumed false, by detector; also return its days."""
    with tempfile.TemporaryDirectory() as folder, gzip.open(path) as file:
        system = InProcessSystem(Path(folder), attribution_window=attribution_window, checkpoints_kept=2)
        first = last = 0
        n_events, decode = 0, msgspec.json.Decoder(dict[str, object]).decode
        while lines := list(islice(file, min(_BATCH_SIZE, limit - n_events))):
            events_and_lines = [(decode(line), line) for line in lines]
            system.append([(str(event["user_id"]), int(str(event["ts"])), line) for event, line in events_and_lines])
            first, last = first or int(str(events_and_lines[0][0]["ts"])), int(str(events_and_lines[-1][0]["ts"]))
            n_events += len(lines)
        system.run_until_idle()
        alarms, quarantined = read_alarms(system.log), list_quarantined(system.log)
        system.close()
    days = (last - first) / DAY_MS
    counts = Counter((alarm.kind, alarm.detector) for alarm in alarms)
    print(
        f"| {path.parent.name} | {n_events:,} | {days:.1f} | {len(quarantined)} | {len(alarms)} | {dict(counts)} |",
        flush=True,
    )
    for alarm in alarms:
        logging.info("%s", alarm)
    return Counter(alarm.detector for alarm in alarms), days


def _classify(result: TrialResult) -> str:
    return next((kind for kind in ("poison", "drift") if kind in result.kinds), "nothing")


def _format_row(name: str, truth: str, results: list[TrialResult]) -> str:
    detected = [result for result in results if result.delay_minutes is not None]
    detectors = sorted(set().union(*(result.detectors for result in results)))
    minutes = f"{np.median([result.delay_minutes for result in detected]):.1f}" if detected else "–"
    events = f"{np.median([result.n_poisoned for result in detected]):.0f}" if detected else "–"
    kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(map(_classify, results)).items())
    n_rolled_back = sum(result.rollbacks > 0 for result in results)
    return (
        f"| {name} | {truth} | {len(detected)} of {len(results)} | {kinds} | {', '.join(detectors)} "
        f"| {minutes} | {events} | {n_rolled_back} of {len(results)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="simulated shops (default 3; 1 with --clean)")
    parser.add_argument("--only", nargs="*", default=[], metavar="SCENARIO")
    parser.add_argument("--clean", type=float, help="hours per shop without a scenario")
    parser.add_argument("--recorded", nargs="*", type=Path)
    parser.add_argument("--limit", type=int, default=30_000, help="events per recorded log")
    parser.add_argument(
        "--window", type=float, help="attribution window in seconds (default 60; 1800 with --clean and --recorded)"
    )
    parser.add_argument("--recovery", action="store_true", help="measure Recall@10 after remedies")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.recorded:
        measure_recorded(arguments.recorded, arguments.limit, arguments.window or 1800.0)
    elif arguments.recovery:
        measure_recovery(arguments.seeds or 3, arguments.only)
    elif arguments.clean:
        measure_clean(arguments.clean, arguments.seeds or 1, arguments.window or 1800.0)
    else:
        measure_scenarios(arguments.seeds or 3, arguments.only, arguments.window or 60.0)


if __name__ == "__main__":
    main()
