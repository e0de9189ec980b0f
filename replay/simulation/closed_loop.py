"""Closed loop of simulated shoppers and the live stream, learn and serve code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from replay.simulation.guard_trials import InProcessSystem
from replay.simulation.simulator import Population, Shop, Simulator
from serving.exploration.explorer import Explorer
from serving.ingest.pending_writes import PendingWrites
from serving.pipeline.recommender import Recommender, RecommenderSettings
from serving.pipeline.responses import Slate, impression_event
from serving.pipeline.schemas import RecommendationRequest
from serving.replica.replica import Replica
from stream.config import GuardSettings, ServeSettings
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, MODEL_UPDATES

_GUARD_OFF = GuardSettings(enabled=False)


@dataclass(frozen=True, slots=True)
class Visit:
    """One slate and the clicks on it."""

    shopper: int
    slate: Slate
    clicked_positions: tuple[int, ...]  # in the slate, from 0


class ClosedLoop:
    """Shoppers click on live slates with known probabilities; the model trains on the clicks.

    The guard is off by default: all shoppers are genuine, and experiments measure the loop alone.
    """

    def __init__(
        self, folder: Path, shop: Shop, population: Population, now_ms: int, serve: ServeSettings,
        seed: int = 0, *, visits_per_second: float = 2.0, search_probability: float = 0.05, batch_size: int = 64,
        attribution_window: float = 60.0, guard: GuardSettings = _GUARD_OFF,
    ) -> None:  # fmt: skip
        """`visits_per_second`: in event time; `batch_size`: visits after which the model catches up."""
        kept = 20 if guard.enabled else 2
        self.system = InProcessSystem(folder, guard, attribution_window=attribution_window, checkpoints_kept=kept)
        self.system.clock.advance(now_ms / 1000)
        self.rng = np.random.default_rng(seed)
        self.simulator = Simulator(shop, population, self.system.clock, self.rng, search_probability)
        self.replica = Replica(self.system.log, self.system.settings)
        explorer = Explorer(serve)
        pending_writes = PendingWrites(1)
        rng = np.random.default_rng(serve.seed)
        ranking = RecommenderSettings(serve.candidates)
        self.recommender = Recommender(self.replica, self.system.store, pending_writes, ranking, explorer, rng)
        self.explorer = explorer
        self._visits_per_second, self._batch_size = visits_per_second, batch_size
        self._pending: list[tuple[str, int, bytes]] = []
        self._n_visits = 0

    def put_items(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add items to the catalog; they may be shown from now on."""
        self.system.put_items(records)
        self.replica.poll()

    def visit(self, k: int) -> Visit:
        """Show a slate of k items to one shopper and simulate the feedback."""
        clock = self.system.clock
        clock.advance(float(self.rng.exponential(1 / self._visits_per_second)))
        ts, shopper, impression_id = clock.now_ms(), self.simulator.next_shopper(), f"r{self._n_visits}"
        user_id = self.simulator.users[shopper]
        request = RecommendationRequest(user_id=user_id, k=k)
        slate = self.recommender.recommend(request, impression_id, ts)
        self.recommender.record_impression(slate)
        item_ids = [item.item_id for item in slate.response.items]
        _, events = self.simulator.simulate_feedback(shopper, impression_id, item_ids)
        self._pending.append((user_id, ts, impression_event(request, slate, ts)))
        self._pending += [(user_id, ts, msgspec.json.encode(event)) for event in events]
        self._n_visits += 1
        if self._n_visits % self._batch_size == 0:
            self.catch_up()
        clicked_ids = [event["item_id"] for event in events if event.get("impression_id") == impression_id]
        return Visit(shopper, slate, tuple(item_ids.index(item) for item in clicked_ids))

    def catch_up(self) -> None:
        """Train on all events so far, update the replica and trim the log."""
        if self._pending:
            self.system.append(self._pending)
            self._pending = []
        self.system.step()
        while self.replica.poll():
            pass
        for topic in (EVENTS, EXAMPLES, MODEL_UPDATES, DEAD_LETTER):
            self.system.log.trim(topic, 0, self.system.log.end_offset(topic, 0))

    def close(self) -> None:
        self.system.close()
