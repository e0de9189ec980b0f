"""Simulated shoppers before the live stream worker, learner and recommender, in one process and in event time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from replay.simulation.guard_trials import Rig
from replay.simulation.simulator import Crowd, Shop, Simulator
from serving.exploration.explorer import Exploration
from serving.ingest.pending_writes import Acknowledged
from serving.pipeline.recommender import Recommender
from serving.pipeline.responses import Slate, impression
from serving.pipeline.schemas import Question
from serving.replica.replica import Replica
from stream.config import Guard, Serve
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, MODEL_UPDATES

_UNGUARDED = Guard(enabled=False)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one shopper was shown and did."""

    shopper: int
    slate: Slate
    clicks: tuple[int, ...]  # places of the slate


class ClosedLoop:
    """What is shown is clicked by known tastes, what is clicked is learnt, what is learnt is shown.

    Without a guard, since shoppers are genuine: it is to be seen what the loop does by itself.
    """

    def __init__(
        self, folder: Path, shop: Shop, crowd: Crowd, now: int, serve: Serve,
        seed: int = 0, pace: float = 2.0, searching: float = 0.05, at_once: int = 64, window: float = 60.0,
        guard: Guard = _UNGUARDED,
    ) -> None:  # fmt: skip
        """`pace` in visits a second of event time; stream, learner and answers move on after `at_once` visits."""
        self.rig = Rig(folder, guard, window, keep=20 if guard.enabled else 2)
        self.rig.clock.advance(now / 1000)
        self.rng = np.random.default_rng(seed)
        self.simulator = Simulator(shop, crowd, self.rig.clock, self.rng, searching)
        self.replica = Replica(self.rig.log, self.rig.settings)
        exploration = Exploration(serve)
        acknowledged = Acknowledged(1)
        rng = np.random.default_rng(serve.seed)
        self.recommender = Recommender(self.replica, self.rig.store, acknowledged, serve.candidates, exploration, rng)
        self.exploration = exploration
        self._pace, self._at_once = pace, at_once
        self._waiting: list[tuple[str, int, bytes]] = []
        self._visits = 0

    def put(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Put items into the catalogue; they may be shown from now on."""
        self.rig.put(records)
        self.replica.poll()

    def visit(self, k: int) -> Visit:
        """One shopper is shown a slate of k places and acts."""
        clock = self.rig.clock
        clock.advance(float(self.rng.exponential(1 / self._pace)))
        now, shopper, name = clock.now_ms(), self.simulator.next_shopper(), f"r{self._visits}"
        user = self.simulator.users[shopper]
        question = Question(user_id=user, k=k)
        slate = self.recommender.answer(question, name, now)
        self.recommender.note_shown(slate)
        shown = [item.item_id for item in slate.answer.items]
        _, events = self.simulator.react(shopper, name, shown)
        self._waiting.append((user, now, impression(question, slate, now)))
        self._waiting += [(user, now, msgspec.json.encode(event)) for event in events]
        self._visits += 1
        if self._visits % self._at_once == 0:
            self.follow()
        clicked = [event["item_id"] for event in events if event.get("impression_id") == name]
        return Visit(shopper, slate, tuple(shown.index(item) for item in clicked))

    def follow(self) -> None:
        """Bring everything that happened into the answers; the log keeps none of it."""
        if self._waiting:
            self.rig.append(self._waiting)
            self._waiting = []
        self.rig.step()
        while self.replica.poll():
            pass
        for topic in (EVENTS, EXAMPLES, MODEL_UPDATES, DEAD_LETTER):
            self.rig.log.trim(topic, 0, self.rig.log.end(topic, 0))

    def close(self) -> None:
        self.rig.close()
