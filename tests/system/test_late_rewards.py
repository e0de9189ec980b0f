"""Late and shuffled rewards give the same posteriors in the live stream and learn code."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_models.bandits.protocols import Posterior
from replay.simulation.guard_trials import InProcessSystem
from replay.simulation.scenarios import SCENARIOS, EventDict, run_scenario
from serving.exploration.explorer import Explorer
from serving.replica.replica import Replica
from stream.clock import HOUR_MS, MINUTE_MS
from stream.config import GuardSettings, ServeSettings
from stream.records.batches import EventType, Kind, concat
from stream.records.example_blocks import decode_examples
from stream.topics import EXAMPLES, ITEMS

MINUTES = 15.0
MEAN_DELAY_MS = 4 * MINUTE_MS
MAX_DELAY_MS = 25 * MINUTE_MS
BATCH_SIZE = 64


def generate_events() -> list[EventDict]:
    """Generate impressions and actions in event time order."""
    return [event for _, events in run_scenario(SCENARIOS[0], 1, 0.5, MINUTES, 0.0) for event in events]


def delay_actions(events: Sequence[EventDict]) -> list[EventDict]:
    """Delay actions by minutes; impressions stay in order."""
    rng = np.random.default_rng(2)
    delay_ms = np.minimum(rng.exponential(MEAN_DELAY_MS, len(events)), MAX_DELAY_MS)
    arrival = [event["ts"] + (0 if event["type"] == "impression" else delay_ms[i]) for i, event in enumerate(events)]
    return [events[i] for i in np.argsort(arrival, kind="stable").tolist()]


def shuffle_actions(events: Sequence[EventDict]) -> list[EventDict]:
    """Send all impressions first, then all actions in random order."""
    impressions = [event for event in events if event["type"] == "impression"]
    actions = [event for event in events if event["type"] != "impression"]
    return impressions + [actions[i] for i in np.random.default_rng(3).permutation(len(actions)).tolist()]


class Outcome:
    """State of a learner and a replica after events in a given order."""

    def __init__(self, folder: Path, events: Sequence[EventDict]) -> None:
        system = InProcessSystem(folder, GuardSettings(enabled=False), attribution_window=3_600.0)
        names = sorted({item for event in events for item in event.get("items", [event.get("item_id")])})
        records = [(name.encode(), msgspec.json.encode({"item_id": name, "created_ts": 1})) for name in names]
        system.log.append(ITEMS, 0, records)
        for i in range(0, len(events), BATCH_SIZE):
            system.send_events(events[i : i + BATCH_SIZE])
        end = {
            "event_id": "end",
            "type": "view",
            "ts": events[0]["ts"] + 4 * HOUR_MS,
            "user_id": "x",
            "item_id": "i1",
        }
        system.send_events([end])
        system.run_until_idle()
        self.replica = Replica(system.log, system.settings)
        blocks = [decode_examples(value)[1] for value in system.log.read(EXAMPLES, 0, 0, 1 << 30).values if value]
        self.examples = concat([block for block in blocks if len(block)])
        system.close()

    @property
    def posteriors(self) -> tuple[np.ndarray, ...]:
        """Item keys, clicks, impressions and posterior means, in the order of the keys."""
        exploration = Explorer(ServeSettings(cold_start_impressions=10_000))
        pool = exploration.refresh_pool(self.replica)
        n = pool.rows.size
        prior = Posterior(np.full(n, 0.1), np.zeros(n))
        (arms,) = exploration.build_cold_start_arms(
            np.arange(n), pool.rows, np.array([0, n]), prior, np.array([0.1]), slate_size=10
        )
        keys = self.replica.model.items.keys[pool.rows]
        order = np.argsort(keys)
        return keys[order], pool.clicks[order], pool.impressions[order], arms.probabilities[order]

    @property
    def outcomes(self) -> dict[tuple[int, int], float]:
        """Labels of closed impressions by (impression, item)."""
        batch, lists = self.examples, self.examples.lists
        return {
            (int(batch.impression[row]), int(lists.item[entry])): float(lists.label[entry])
            for row in np.flatnonzero(batch.kind == Kind.closed).tolist()
            for entry in range(lists.start[row], lists.start[row + 1])
        }


@pytest.mark.slow
@pytest.mark.parametrize("reorder", [delay_actions, shuffle_actions])
def test_late_and_shuffled_rewards_give_equal_posteriors(
    tmp_path: Path, reorder: Callable[[Sequence[EventDict]], list[EventDict]]
) -> None:
    events = generate_events()
    in_order = Outcome(tmp_path / "in order", events)
    reordered = Outcome(tmp_path / "reordered", reorder(events))

    assert in_order.replica.event_totals[EventType.click] > 50
    for expected, actual in zip(in_order.posteriors, reordered.posteriors, strict=True):
        assert actual.tolist() == expected.tolist()
    assert sum(in_order.outcomes.values()) > 50
    assert reordered.outcomes == in_order.outcomes
