"""An answer tried before the first one is asked for, on a shop made up for it, so that nobody waits for a compiler."""

import numpy as np

from online_models.bandits.warm_start import WarmStart
from online_models.model import Stack
from online_models.rankers.click_head import chance_of
from online_models.retrievers.top_k import Hidden
from serving.exploration.explorer import FRESH, Exploration
from serving.exploration.fresh_items import Pool, lie_around
from serving.exploration.slate_filling import fill, least_shown
from serving.pipeline.ranking import ranked
from serving.replica.category_neighbors import CategoryBoards
from stream.users.profiles import NOBODY, questions_of

_ITEMS = 12


def rehearse(exploration: Exploration) -> None:
    """Compile what an answer needs."""
    stack, keys = Stack(), np.arange(1, _ITEMS + 1, dtype=np.uint64)
    stack.describe(keys, np.repeat(keys[:, None], 4, axis=1), np.zeros(_ITEMS, np.int64), np.ones(_ITEMS, np.float32))
    eligible, rows = np.ones(_ITEMS, np.uint8), np.arange(_ITEMS, dtype=np.int32)
    fresh = least_shown(np.zeros(_ITEMS, np.int32), eligible, budget=1, count=2)
    people = stack.items.people(questions_of([NOBODY], [1], [1], [0], [[]]))
    found = stack.candidates(people, 10, eligible, Hidden(np.array([0, 1]), rows[:1]), fresh)
    judged = ranked(stack, people, found, trust=0.5, most=10)
    at = np.flatnonzero(found.channels & FRESH)
    around = lie_around(stack.items, CategoryBoards(stack.items), fresh, 0.1, WarmStart())
    exploration.follow(Pool("", fresh, np.zeros(2), np.zeros(2), around, 0.1))
    chances, best = chance_of(judged.odds[at]).astype(float), np.array([0.1])
    told = exploration.told(stack, found.row[at], judged.features, at, chances)
    (weighed,) = exploration.weigh(at, found.row[at], np.array([0, at.size]), told, best, 10)
    exploration.spend(weighed, fill(judged.best_of(0), weighed, 10, np.random.default_rng(0)))
