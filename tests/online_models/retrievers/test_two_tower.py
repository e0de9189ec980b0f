import numpy as np

from online_models.retrievers.two_tower import TwoTowerRetriever, TwoTowerSettings
from online_models.state.item_table import ItemTable
from tests.support.batches import GROUP, ITEMS, START
from tests.support.retriever_inputs import make_actions, make_items, make_users

SETTINGS = TwoTowerSettings(size=16)


def train(steps: int = 60) -> tuple[ItemTable, TwoTowerRetriever]:
    """Train on actions of users who stay in one group of items."""
    items, rng = make_items(), np.random.default_rng(0)
    tower = TwoTowerRetriever(items, SETTINGS)
    for step in range(steps):
        groups = rng.integers(8, size=32)
        walks = [rng.choice(np.flatnonzero(group == GROUP), 4).tolist() for group in groups]
        histories, rows = [walk[:3] for walk in walks], [walk[3] for walk in walks]
        tower.learn(make_actions(items, histories, rows, [START + step * 1000] * 32))
    return items, tower


def test_users_find_items_of_their_group() -> None:
    items, tower = train()
    found = tower.retrieve(make_users(items, [[group, group + 8] for group in range(8)]), 10)

    assert (GROUP[found] == np.arange(8)[:, None]).mean() > 0.9


def test_first_vector_depends_on_the_key_alone() -> None:
    _, tower = train(0)
    reversed_items = ItemTable()
    reversed_items.add_keys(ITEMS[::-1])
    other = TwoTowerRetriever(reversed_items, SETTINGS)

    assert np.array_equal(other.item_vectors["vector"][:200], tower.item_vectors["vector"][:200][::-1])


def test_tables_follow_the_item_table() -> None:
    items = ItemTable()
    tower = TwoTowerRetriever(items, SETTINGS)
    for end in (50, 120, 200):
        items.add_keys(ITEMS[:end])
        new_keys = tower.changes()["item_vectors.keys"]

        assert new_keys.tolist() == items.keys[end - new_keys.size :].tolist()
        assert tower.item_vectors.keys.tolist() == tower.history_vectors.keys.tolist() == items.keys.tolist()


def test_untrained_items_are_not_found() -> None:
    items, tower = train(0)

    assert (tower.retrieve(make_users(items, [[1]]), 5) == -1).all()
