"""How soon what is shown follows shoppers whose tastes change at once, and what a false alarm of it costs.

python -m benchmarks.guard.preference_shift                     # with the guard and without, three seeds
python -m benchmarks.guard.preference_shift --by-hand           # other remedies, each by hand five minutes after the change
python -m benchmarks.guard.preference_shift --false             # tastes stay, and the remedy is ordered all the same

Slates are those of the live recommender: what is shown is clicked by known tastes, and what is clicked is learnt.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from online_models.control import ForgetOrder, encode_order
from online_models.model import Stack
from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.preference_shift import Act, Followed, Shopping, follow
from serving.exploration.explorer import Exploration
from stream.config import Guard, Serve
from stream.topics import CONTROL

_DAY_MS = 86_400_000
_SPANS = ((-10, 0), (0, 5), (5, 10), (10, 15), (15, 20), (20, 25))  # minutes since the change
_OFF, _ON = Guard(enabled=False), Guard()


def on_both(change: Callable[[Stack], None]) -> Act:
    """Do it to the learner and to the replica that answers."""

    def act(loop: ClosedLoop) -> None:
        loop.follow()
        for stack in (loop.rig.learn.stack, loop.replica.stack):
            change(stack)

    return act


def learn_faster(stack: Stack) -> None:
    for net in (stack.orderer, stack.picker):
        net.settings = replace(net.settings, rate=4 * net.settings.rate)


def let_the_head_forget(stack: Stack) -> None:
    stack.chances._square /= 16


def fade_counts(stack: Stack) -> None:
    stack.items.counters["counts"][:] *= 0.25


def fade_covisits(stack: Stack) -> None:
    for column in ("weight", "total"):
        stack.covisits.table[column][:] *= 0.25


def explore_more(loop: ClosedLoop) -> None:
    loop.exploration = Exploration(Serve(explore=0.3, explore_over="slate"))
    loop.recommender._exploration = loop.exploration


def leave_out_the_past(loop: ClosedLoop) -> None:
    """What the guard orders, as far back as five minutes before."""
    now = loop.rig.clock.now_ms()
    order = ForgetOrder(now - 300_000, now + _DAY_MS, "by hand")
    loop.rig.log.append(CONTROL, 0, [(None, encode_order(order))])


BY_HAND: dict[str, Act] = {
    "rankers' rate × 4": on_both(learn_faster),
    "click head's steps × 4": on_both(let_the_head_forget),
    "items' counts × 1/4": on_both(fade_counts),
    "co-visits × 1/4": on_both(fade_covisits),
    "30 % explored, of the slate": explore_more,
    "past left out": leave_out_the_past,
}


def told(name: str, found: Sequence[Followed]) -> str:
    """A line of the table: means over the seeds."""
    spans = " | ".join(f"{100 * np.mean([one.click_through(*span) for one in found]):.1f}" for span in _SPANS)
    whole = " ".join(f"{100 * one.click_through(0, 25):.2f}" for one in found)
    first = [f"{min(one.noticed()):.1f}" if one.alarms else "–" for one in found]
    acted = [" to ".join(f"{minute:.1f}" for minute in one.noticed("tastes")) or "–" for one in found]
    return f"| {name} | {spans} | {whole} | {', '.join(first)} | {', '.join(acted)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--by-hand", action="store_true")
    parser.add_argument("--false", action="store_true", dest="false_alarm")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    shopping = Shopping(changes=not asked.false_alarm)
    arms: dict[str, tuple[Guard, Act | None]] = {"without guard": (_OFF, None), "with guard": (_ON, None)}
    if asked.by_hand:
        arms = {name: (_OFF, act) for name, act in BY_HAND.items()}
    if asked.false_alarm:
        arms |= {"with guard, ordered in vain": (_ON, leave_out_the_past)}
    spans = " | ".join(f"{first} to {last}" for first, last in _SPANS)
    print(f"| minutes since | {spans} | 0 to 25, by seed | first alarm | `tastes` |\n|{'---|' * (len(_SPANS) + 4)}")
    for name, (guard, act) in arms.items():
        found = [follow(seed, guard, shopping, act) for seed in range(1, asked.seeds + 1)]
        print(told(name, found), flush=True)


if __name__ == "__main__":
    main()
