"""Rewards minutes late and out of order, through the live stream worker and learner: posteriors stay right."""

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
from stream.config import GuardSettings, ServeSettings
from stream.records.batches import EventType, Kind, concat
from stream.records.example_blocks import decode_examples
from stream.topics import EXAMPLES, ITEMS

MINUTES = 15.0
DELAY = 4 * 60_000  # ms, mean of what actions are late by
LATEST = 25 * 60_000
AT_ONCE = 64


def visits() -> list[EventDict]:
    """Impressions and what came of them, as they happened."""
    return [event for _, events in run_scenario(SCENARIOS[0], 1, 0.5, MINUTES, 0.0) for event in events]


def delayed(events: Sequence[EventDict]) -> list[EventDict]:
    """The same in another order: impressions in time, actions minutes later than others that were later."""
    rng = np.random.default_rng(2)
    late = np.minimum(rng.exponential(DELAY, len(events)), LATEST)
    arrival = [event["ts"] + (0 if event["type"] == "impression" else late[i]) for i, event in enumerate(events)]
    return [events[i] for i in np.argsort(arrival, kind="stable").tolist()]


def shuffled(events: Sequence[EventDict]) -> list[EventDict]:
    """All impressions, then all actions in any order."""
    shown = [event for event in events if event["type"] == "impression"]
    acts = [event for event in events if event["type"] != "impression"]
    return shown + [acts[i] for i in np.random.default_rng(3).permutation(len(acts)).tolist()]


class Told:
    """What a learner and a replica make of events that arrive in this order."""

    def __init__(self, folder: Path, events: Sequence[EventDict]) -> None:
        rig = InProcessSystem(folder, GuardSettings(enabled=False), attribution_window=3_600.0)
        names = sorted({item for event in events for item in event.get("items", [event.get("item_id")])})
        records = [(name.encode(), msgspec.json.encode({"item_id": name, "created_ts": 1})) for name in names]
        rig.log.append(ITEMS, 0, records)
        for i in range(0, len(events), AT_ONCE):
            rig.send_events(events[i : i + AT_ONCE])
        end = {
            "event_id": "end",
            "type": "view",
            "ts": events[0]["ts"] + 4 * 3_600_000,
            "user_id": "x",
            "item_id": "i1",
        }
        rig.send_events([end])
        rig.run_until_idle()
        self.replica = Replica(rig.log, rig.settings)
        blocks = [decode_examples(value)[1] for value in rig.log.read(EXAMPLES, 0, 0, 1 << 30).values if value]
        self.examples = concat([block for block in blocks if len(block)])
        rig.close()

    @property
    def posteriors(self) -> tuple[np.ndarray, ...]:
        """Of each item clicks and places, and the chances that follow from them."""
        exploration = Explorer(ServeSettings(cold_start_impressions=10_000))
        pool = exploration.refresh_pool(self.replica)
        n = pool.rows.size
        told = Posterior(np.full(n, 0.1), np.zeros(n))
        (fresh,) = exploration.build_cold_start_arms(
            np.arange(n), pool.rows, np.array([0, n]), told, np.array([0.1]), slate_size=10
        )
        keys = self.replica.model.items.keys[pool.rows]
        order = np.argsort(keys)
        return keys[order], pool.clicks[order], pool.impressions[order], fresh.probabilities[order]

    @property
    def outcomes(self) -> dict[tuple[int, int], float]:
        """What each shown item came to when its window closed, by impression and item."""
        batch, lists = self.examples, self.examples.lists
        return {
            (int(batch.impression[row]), int(lists.item[at])): float(lists.label[at])
            for row in np.flatnonzero(batch.kind == Kind.closed).tolist()
            for at in range(lists.start[row], lists.start[row + 1])
        }


@pytest.mark.slow
@pytest.mark.parametrize("arriving", [delayed, shuffled], ids=["minutes late", "shuffled"])
def test_late_and_shuffled_rewards_leave_the_posteriors_what_they_are(
    tmp_path: Path, arriving: Callable[[Sequence[EventDict]], list[EventDict]]
) -> None:
    events = visits()
    in_time, late = Told(tmp_path / "in time", events), Told(tmp_path / "late", arriving(events))

    assert in_time.replica.event_totals[EventType.click] > 50
    for expected, got in zip(in_time.posteriors, late.posteriors, strict=True):
        assert got.tolist() == expected.tolist()
    assert sum(in_time.outcomes.values()) > 50
    assert late.outcomes == in_time.outcomes
