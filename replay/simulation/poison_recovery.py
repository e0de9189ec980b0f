"""What is left of poison once it is undone: the model beside one that never saw it, and one that nobody guarded."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from online_models.retrievers.candidates import Found
from replay.simulation.guard_trials import Rig
from replay.simulation.scenarios import Event, Scenario, World, happen
from replay.simulation.simulator import Shop
from serving.pipeline.ranking import ranked
from stream.config import Guard
from stream.ids import key_of, keys_of
from stream.users.profiles import NOBODY, Profile, decode_profile, questions_of

_AT_ONCE = 64  # events between two steps
_K = 10
_TRUST = 0.5  # of what people did with what they were shown, in ranking


@dataclass(frozen=True, slots=True)
class Undone:
    """Recall@10 of what each shopper truly likes best, of all that is offered."""

    clean: float  # of a learner whose log has no poison
    guarded: float  # poison, noticed and undone
    unguarded: float  # poison, and alarms alone
    rollbacks: int

    @property
    def lost(self) -> float:
        """Part of the clean recall that poison cost although it was undone."""
        return 1 - self.guarded / self.clean


def undo(scenario: Scenario, seed: int = 1, calm: float = 34.0, length: float = 20.0, pace: float = 2.0) -> Undone:
    """Play a scenario once, and teach its events to three learners; times in minutes, `pace` in visits a second."""
    world, genuine, poisoned = World(seed, pace), list[Event](), list[Event]()
    for _, events in happen(world, scenario, calm, length):
        genuine += world.genuine
        poisoned += events
    with tempfile.TemporaryDirectory() as folder:
        clean = _taught(Path(folder) / "clean", world.shop, genuine, Guard())
        recall = [recall_of(clean, world)]
        rollbacks = 0
        for name, guard in (("guarded", Guard()), ("unguarded", Guard(remedy=False))):
            rig = _taught(Path(folder) / name, world.shop, poisoned, guard)
            recall.append(recall_of(rig, world))
            rollbacks += rig.learn.progress.epoch - 1
            rig.close()
        clean.close()
    return Undone(recall[0], recall[1], recall[2], rollbacks)


def recall_of(rig: Rig, world: World) -> float:
    """Of the ten items that each shopper truly likes best among those on offer, the share in the ten ranked first.

    Shoppers are asked for as this stream knows them, with what poison left in their histories.
    """
    stack, people = rig.learn.stack, people_of(rig, world)
    ts, found = world.clock.now_ms(), 0
    keys = keys_of([world.shop.names[j] for j in world.offered.tolist()])
    offered = Found(np.array([0, keys.size]), stack.items.find(keys), np.zeros(keys.size, np.uint16))
    for shopper, profile in enumerate(people):
        asked = questions_of([profile], [key_of(world.simulator.users[shopper])], [ts], [0], [[]])
        best = ranked(stack, stack.people(asked), offered, _TRUST, _K).best_of(0)
        liked = np.argsort(-world.simulator.chance[shopper, world.offered])[:_K]
        found += np.isin(best, liked).sum()
    return float(found / (_K * len(people)))


def _taught(folder: Path, shop: Shop, events: Sequence[Event], guard: Guard) -> Rig:
    rig = Rig(folder, guard)
    rig.put(shop.records())
    for first in range(0, len(events), _AT_ONCE):
        rig.send(events[first : first + _AT_ONCE])
    rig.settle()
    return rig


def people_of(rig: Rig, world: World) -> list[Profile]:
    """What is known of each shopper."""
    values = [rig.store.get(key_of(user)) for user in world.simulator.users]
    return [NOBODY if value is None else decode_profile(value) for value in values]
