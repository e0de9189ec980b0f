import numpy as np
import pytest

from online_models.retrievers.top_k import Exclusions, empty_exclusions, top_k
from online_models.retrievers.two_tower import TwoTowerRetriever, TwoTowerSettings
from online_models.retrievers.vector_index import VectorIndex
from online_models.state.item_table import Actions, ItemTable
from online_models.state.workspace import Workspace
from tests.support.batches import GROUP, ITEMS, START, questions


def trained(steps: int = 60) -> tuple[ItemTable, TwoTowerRetriever]:
    items, rng = ItemTable(), np.random.default_rng(0)
    items.add_keys(ITEMS)
    tower = TwoTowerRetriever(items, Workspace(), TwoTowerSettings(size=16))
    tower.add_keys(ITEMS)
    for step in range(steps):
        groups = rng.integers(8, size=32)
        chosen = [rng.choice(np.flatnonzero(group == GROUP), 4).tolist() for group in groups]
        ts = np.full(32, START + step * 1000)
        people = items.resolve_queries(questions(32, [some[:3] for some in chosen], ts))
        tower.learn(Actions(people, np.array([some[3] for some in chosen], np.int32), ts))
    return items, tower


def test_people_are_led_to_items_of_their_group() -> None:
    items, tower = trained()
    people = items.resolve_queries(questions(8, [[group, group + 8] for group in range(8)], np.full(8, START)))
    found = tower.retrieve(people, 10, np.ones(1024, np.uint8), empty_exclusions(8))

    assert (GROUP[found] == np.arange(8)[:, None]).mean() > 0.9


def test_first_vectors_hang_on_the_key_alone() -> None:
    items, tower = trained(0)
    other = TwoTowerRetriever(items, Workspace(), TwoTowerSettings(size=16))
    other.add_keys(ITEMS[::-1])

    assert np.array_equal(other.item_vectors["vector"][:200], tower.item_vectors["vector"][:200][::-1])


def test_what_was_never_trained_is_not_found() -> None:
    items, tower = trained(0)
    people = items.resolve_queries(questions(1, [[1]], np.array([START])))
    found = tower.retrieve(people, 5, np.ones(1024, np.uint8), empty_exclusions(1))

    assert (found == -1).all()


@pytest.mark.parametrize("size", [500, 30_000], ids=["exact", "inverted lists"])
def test_the_index_follows_new_vectors(size: int) -> None:
    rng = np.random.default_rng(2)
    vector = rng.normal(size=(size, 16)).astype(np.float32)
    index = VectorIndex(16)
    index.update(np.arange(size), vector)
    user, eligible = rng.normal(size=(1, 16)).astype(np.float32), np.ones(size, np.uint8)
    hidden, place = Exclusions(np.array([0, 1]), np.array([11], np.int32)), np.full(size, -1, np.int32)
    vector[11] = 20 * user[0]
    index.update(np.array([11]), vector)
    vector[7] = 10 * user[0]
    index.update(np.array([7]), vector)

    assert index.search(user, vector, 5, eligible, hidden, place)[0, 0] == 7

    eligible[7] = 0
    vector[9] = -10 * user[0]
    index.update(np.array([9]), vector)
    assert not {7, 9, 11} & set(index.search(user, vector, 5, eligible, hidden, place)[0].tolist())


def test_inverted_lists_find_most_of_the_exact_answer() -> None:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(100, 16))
    vector = (centres[rng.integers(100, size=30_000)] + 0.5 * rng.normal(size=(30_000, 16))).astype(np.float32)
    users = (centres[:20] + 0.3 * rng.normal(size=(20, 16))).astype(np.float32)
    index = VectorIndex(16)
    index.update(np.arange(30_000), vector)
    place = np.full(30_000, -1, np.int32)
    found = index.search(users, vector, 10, np.ones(30_000, np.uint8), empty_exclusions(20), place)
    exact = np.argsort(-users @ vector.T, axis=1)[:, :10]
    shared = np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])

    assert shared > 0.9


def test_best_sorts_like_a_stable_sort() -> None:
    scores = np.random.default_rng(4).integers(0, 20, 300).astype(np.float32)
    chosen = np.empty(40, np.int64)
    top_k(scores, 300, chosen)

    assert chosen.tolist() == np.argsort(-scores, kind="stable")[:40].tolist()
