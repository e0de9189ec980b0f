"""Click-through after an abrupt preference shift, and the cost of a false alarm.

python -m benchmarks.guard.preference_shift                 # with and without the guard, three seeds
python -m benchmarks.guard.preference_shift --manual        # other remedies, applied five minutes after the shift
python -m benchmarks.guard.preference_shift --false-alarm   # no shift, but the remedy is applied

The live recommender makes the slates; shoppers with known preferences click; the live learner trains on the clicks.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from online_models.control import TruncateHistoryCommand, encode_command
from online_models.model import RecommenderModel
from online_models.rankers.listnet import ListNet
from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.preference_shift import Intervention, ShiftResult, ShopSettings, run_shift
from serving.exploration.explorer import Explorer
from stream.clock import DAY_MS
from stream.config import GuardSettings, ServeSettings
from stream.topics import CONTROL

_SPANS = ((-10, 0), (0, 5), (5, 10), (10, 15), (15, 20), (20, 25))  # minutes since the shift
_GUARD_OFF, _GUARD_ON = GuardSettings(enabled=False), GuardSettings()


def apply_to_both(change: Callable[[RecommenderModel], None]) -> Intervention:
    """Apply a change to the models of the learner and the serving replica."""

    def intervene(loop: ClosedLoop) -> None:
        loop.catch_up()
        for model in (loop.system.learn_worker.model, loop.replica.model):
            change(model)

    return intervene


def raise_learning_rate(model: RecommenderModel) -> None:
    for ranker in (model.slate_ranker, model.candidate_ranker):
        assert isinstance(ranker, ListNet)
        adam = ranker.hyperparameters.adam
        ranker.hyperparameters = replace(ranker.hyperparameters, adam=replace(adam, rate=4 * adam.rate))


def raise_click_head_rate(model: RecommenderModel) -> None:
    model.click_head._square /= 16


def decay_counts(model: RecommenderModel) -> None:
    model.items.counters["counts"][:] *= 0.25


def decay_covisitations(model: RecommenderModel) -> None:
    for column in ("weight", "total"):
        model.covisitation.table[column][:] *= 0.25


def explore_more(loop: ClosedLoop) -> None:
    loop.explorer = Explorer(ServeSettings(exploration_rate=0.3, exploration_scope="slate"))
    loop.recommender._explorer = loop.explorer


def truncate_history(loop: ClosedLoop) -> None:
    """Apply the guard's remedy: ignore the history before five minutes ago."""
    now_ms = loop.system.clock.now_ms()
    command = TruncateHistoryCommand(now_ms - 300_000, now_ms + DAY_MS, "manual")
    loop.system.log.append(CONTROL, 0, [(None, encode_command(command))])


MANUAL_REMEDIES: dict[str, Intervention] = {
    "ranker learning rate × 4": apply_to_both(raise_learning_rate),
    "click head step size × 4": apply_to_both(raise_click_head_rate),
    "item counts × 1/4": apply_to_both(decay_counts),
    "co-visitation weights × 1/4": apply_to_both(decay_covisitations),
    "explore 30 % of the slate": explore_more,
    "truncate history": truncate_history,
}


def format_row(name: str, results: Sequence[ShiftResult]) -> str:
    """Format a row: means over the seeds."""
    spans = " | ".join(f"{100 * np.mean([result.click_through(*span) for result in results]):.1f}" for span in _SPANS)
    by_seed = " ".join(f"{100 * result.click_through(0, 25):.2f}" for result in results)
    first_alarms = [f"{min(result.alarm_delays()):.1f}" if result.alarms else "–" for result in results]
    shift_alarms = [
        " to ".join(f"{minute:.1f}" for minute in result.alarm_delays("preference_shift")) or "–" for result in results
    ]
    return f"| {name} | {spans} | {by_seed} | {', '.join(first_alarms)} | {', '.join(shift_alarms)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--manual", action="store_true", help="compare other remedies")
    parser.add_argument("--false-alarm", action="store_true", help="no shift, but the remedy is applied")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    settings = ShopSettings(has_shift=not arguments.false_alarm)
    arms: dict[str, tuple[GuardSettings, Intervention | None]] = {
        "without guard": (_GUARD_OFF, None),
        "with guard": (_GUARD_ON, None),
    }
    if arguments.manual:
        arms = {name: (_GUARD_OFF, intervention) for name, intervention in MANUAL_REMEDIES.items()}
    if arguments.false_alarm:
        arms |= {"with guard and false alarm": (_GUARD_ON, truncate_history)}
    spans = " | ".join(f"{first} to {last}" for first, last in _SPANS)
    print(f"| minutes since the shift | {spans} | 0 to 25, by seed | first alarm | `preference_shift` |")
    print(f"|{'---|' * (len(_SPANS) + 4)}")
    for name, (guard, intervention) in arms.items():
        results = [run_shift(seed, guard, settings, intervention) for seed in range(1, arguments.seeds + 1)]
        print(format_row(name, results), flush=True)


if __name__ == "__main__":
    main()
