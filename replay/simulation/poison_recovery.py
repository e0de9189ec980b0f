"""Measure recovery from poison against a model without poison and one without remedies."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from online_models.retrievers.candidates import Candidates
from replay.simulation.guard_trials import InProcessSystem
from replay.simulation.scenarios import EventDict, Scenario, World, run_in_world
from replay.simulation.simulator import Shop
from serving.pipeline.ranking import rank
from stream.config import GuardSettings
from stream.ids import hash_id, hash_ids
from stream.users.profiles import EMPTY_PROFILE, Profile, decode_profile, queries_from_profiles

_BATCH_SIZE = 64  # events per step
_K = 10
_FEEDBACK_WEIGHT = 0.5  # weight of feedback on slates in the ranking score


@dataclass(frozen=True, slots=True)
class RecoveryResult:
    """Recall@10 of the offered items with each shopper's highest click probabilities."""

    clean: float  # log without poison
    guarded: float  # log with poison, guard with remedies
    unguarded: float  # log with poison, alarms only
    rollbacks: int

    @property
    def recall_loss(self) -> float:
        """Share of the clean recall that is lost despite the remedies."""
        return 1 - self.guarded / self.clean


def run_recovery(
    scenario: Scenario, seed: int = 1, *, warmup: float = 34.0, duration: float = 20.0, visits_per_second: float = 2.0
) -> RecoveryResult:
    """Generate the events of a scenario once and train three models on them; times in minutes."""
    world, genuine_events, poisoned_events = World(seed, visits_per_second), list[EventDict](), list[EventDict]()
    for _, events in run_in_world(world, scenario, warmup, duration):
        genuine_events += world.genuine_events
        poisoned_events += events
    with tempfile.TemporaryDirectory() as folder:
        clean_system = _train_system(Path(folder) / "clean", world.shop, genuine_events, GuardSettings())
        recall = [compute_recall(clean_system, world)]
        rollbacks = 0
        for name, guard in (("guarded", GuardSettings()), ("unguarded", GuardSettings(auto_remediate=False))):
            system = _train_system(Path(folder) / name, world.shop, poisoned_events, guard)
            recall.append(compute_recall(system, world))
            rollbacks += system.learn_worker.progress.epoch - 1
            system.close()
        clean_system.close()
    return RecoveryResult(recall[0], recall[1], recall[2], rollbacks)


def compute_recall(system: InProcessSystem, world: World) -> float:
    """Recall@10 over all shoppers, of their ten best offered items by true click probability.

    The user histories are those of this system, including what poison left in them.
    """
    model, profiles = system.learn_worker.model, load_profiles(system, world)
    ts, n_hits = world.clock.now_ms(), 0
    keys = hash_ids([world.shop.item_ids[j] for j in world.offered_items.tolist()])
    offered = Candidates(np.array([0, keys.size]), model.items.lookup(keys), np.zeros(keys.size, np.uint16))
    for shopper, profile in enumerate(profiles):
        queries = queries_from_profiles([profile], [hash_id(world.simulator.users[shopper])], [ts], [0], [[]])
        top_rows = rank(model, model.resolve_queries(queries), offered, _FEEDBACK_WEIGHT, _K).get_top_entries(0)
        best_items = np.argsort(-world.simulator.click_probability[shopper, world.offered_items])[:_K]
        n_hits += np.isin(top_rows, best_items).sum()
    return float(n_hits / (_K * len(profiles)))


def _train_system(folder: Path, shop: Shop, events: Sequence[EventDict], guard: GuardSettings) -> InProcessSystem:
    system = InProcessSystem(folder, guard)
    system.put_items(shop.records())
    for first in range(0, len(events), _BATCH_SIZE):
        system.send_events(events[first : first + _BATCH_SIZE])
    system.run_until_idle()
    return system


def load_profiles(system: InProcessSystem, world: World) -> list[Profile]:
    """Load the stored profile of each shopper."""
    values = [system.store.get(hash_id(user)) for user in world.simulator.users]
    return [EMPTY_PROFILE if value is None else decode_profile(value) for value in values]
