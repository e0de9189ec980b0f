"""What the guard notices, how soon, and how often it is wrong: scenarios of known truth, and recorded logs.

python -m benchmarks.guard.guard_scenarios                         # all scenarios, three seeds each
python -m benchmarks.guard.guard_scenarios --clean 24 --seeds 2    # hours of clean simulated shopping, of each of two shops
python -m benchmarks.guard.guard_scenarios --recorded FILE.jsonl.gz …
python -m benchmarks.guard.guard_scenarios --undone                # what poison costs once it is undone: Recall@10
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

from benchmarks.guard.false_alarms import table
from replay.simulation.guard_trials import Rig, Trial, try_out
from replay.simulation.poison_recovery import undo
from replay.simulation.scenarios import SCENARIOS
from stream.alarms import known_alarms
from stream.quarantine import held_back

_AT_ONCE = 512  # events between two steps
_DAY_MS = 86_400_000
_UNDONE = {  # minutes that each lasts
    "click flood": 5.0,
    "pumping group": 5.0,
    "shilling group": 5.0,
    "coordinated group": 5.0,
    "label flip 5 %": 5.0,
    "label flip 30 %": 15.0,
}


def judge_scenarios(seeds: int, names: list[str], window: float) -> None:
    """One line per scenario, and the confusion of kinds."""
    print("| scenario | truth | noticed | as | detectors | minutes until then | events until then | rolled back |")
    print("|---|---|---|---|---|---|---|---|")
    confusion: Counter[tuple[str, str]] = Counter()
    for scenario in SCENARIOS:
        if names and scenario.name not in names:
            continue
        linger = 6.0 if scenario.truth == "poison" and scenario.minutes > 30 else 1e9
        trials = [try_out(scenario, seed, linger=linger, window=window) for seed in range(1, seeds + 1)]
        confusion.update((scenario.truth, _verdict(trial)) for trial in trials)
        print(_line(scenario.name, scenario.truth, trials), flush=True)
    print("\n| truth | poison | drift | nothing |\n|---|---|---|---|")
    for truth in ("poison", "genuine", "clean"):
        print(
            f"| {truth} | " + " | ".join(str(confusion[truth, kind]) for kind in ("poison", "drift", "nothing")) + " |"
        )


def judge_clean(hours: float, seeds: int, window: float) -> None:
    """False alarms on simulated shopping in which nothing happens, by detector."""
    found: Counter[str] = Counter()
    for seed in range(1, seeds + 1):
        trial = try_out(SCENARIOS[0], seed, calm=60 * hours, length=0, window=window)
        found.update(alarm.detector for alarm in trial.alarms)
        print(
            f"seed {seed}: {hours:g} clean hours, {len(trial.alarms)} alarms, {trial.quarantined} held back", flush=True
        )
    print("", *table(found, seeds * hours / 24), sep="\n")


def judge_undone(seeds: int, names: list[str]) -> None:
    """Recall@10 an hour after poison began, beside a learner that saw none and one that was left alone."""
    print("| scenario | clean | undone | left alone | lost, undone | lost, left alone | rollbacks |")
    print("|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        if scenario.name not in (names or _UNDONE):
            continue
        short = replace(scenario, minutes=_UNDONE[scenario.name])
        ones = [undo(short, seed, length=60.0) for seed in range(1, seeds + 1)]
        recall = np.array([(one.clean, one.guarded, one.unguarded) for one in ones])
        means = " | ".join(f"{mean:.3f}" for mean in recall.mean(axis=0))
        lost = " | ".join(_share_lost(1 - recall[:, i] / recall[:, 0]) for i in (1, 2))
        back = sum(one.rollbacks for one in ones)
        print(f"| {scenario.name} | {means} | {lost} | {back} |", flush=True)


def _share_lost(lost: np.ndarray) -> str:
    """Mean over shops, and two standard errors of it."""
    error = 2 * lost.std(ddof=1) / np.sqrt(lost.size) if lost.size > 1 else np.nan
    return f"{100 * lost.mean():.1f} ± {100 * error:.1f} %"


def judge_recorded(paths: list[Path], limit: int, window: float) -> None:
    """False alarms on recorded logs, by log and by detector."""
    print("| log | events | days | held back | alarms | which |\n|---|---|---|---|---|---|")
    found, days = Counter[str](), 0.0
    for path in paths:
        more, lasted = _recorded(path, limit, window)
        found, days = found + more, days + lasted
    print("", *table(found, days), sep="\n")


def _recorded(path: Path, limit: int, window: float) -> tuple[Counter[str], float]:
    """Alarms on a recorded log, all of which are taken for false, by detector; and how many days it is long."""
    with tempfile.TemporaryDirectory() as folder, gzip.open(path) as file:
        rig = Rig(Path(folder), window=window, keep=2)
        first = last = 0
        events, decode = 0, msgspec.json.Decoder(dict[str, object]).decode
        while lines := list(islice(file, min(_AT_ONCE, limit - events))):
            told = [(decode(line), line) for line in lines]
            rig.append([(str(one["user_id"]), int(str(one["ts"])), line) for one, line in told])
            first, last = first or int(str(told[0][0]["ts"])), int(str(told[-1][0]["ts"]))
            events += len(lines)
        rig.settle()
        alarms, held = known_alarms(rig.log), held_back(rig.log)
        rig.close()
    days = (last - first) / _DAY_MS
    found = Counter((alarm.kind, alarm.detector) for alarm in alarms)
    print(f"| {path.parent.name} | {events:,} | {days:.1f} | {len(held)} | {len(alarms)} | {dict(found)} |", flush=True)
    for alarm in alarms:
        logging.info("%s", alarm)
    return Counter(alarm.detector for alarm in alarms), days


def _verdict(trial: Trial) -> str:
    return next((kind for kind in ("poison", "drift") if kind in trial.kinds), "nothing")


def _line(name: str, truth: str, trials: list[Trial]) -> str:
    noticed = [trial for trial in trials if trial.delay is not None]
    detectors = sorted(set().union(*(trial.detectors for trial in trials)))
    minutes = f"{np.median([trial.delay for trial in noticed]):.1f}" if noticed else "–"
    events = f"{np.median([trial.poisoned for trial in noticed]):.0f}" if noticed else "–"
    kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(map(_verdict, trials)).items())
    back = sum(trial.rollbacks > 0 for trial in trials)
    return (
        f"| {name} | {truth} | {len(noticed)} of {len(trials)} | {kinds} | {', '.join(detectors)} "
        f"| {minutes} | {events} | {back} of {len(trials)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="3, of clean hours 1")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--clean", type=float, help="hours")
    parser.add_argument("--recorded", nargs="*", type=Path)
    parser.add_argument("--limit", type=int, default=30_000)
    parser.add_argument("--window", type=float, help="seconds: 1800 of clean and recorded logs, 60 of scenarios")
    parser.add_argument("--undone", action="store_true")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    if asked.recorded:
        judge_recorded(asked.recorded, asked.limit, asked.window or 1800.0)
    elif asked.undone:
        judge_undone(asked.seeds or 3, asked.only)
    elif asked.clean:
        judge_clean(asked.clean, asked.seeds or 1, asked.window or 1800.0)
    else:
        judge_scenarios(asked.seeds or 3, asked.only, asked.window or 60.0)


if __name__ == "__main__":
    main()
