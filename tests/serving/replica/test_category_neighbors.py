"""Neighbors of fresh items by categories, price and impressions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits.warm_start import WarmStart
from online_models.state.item_table import NO_TIME, ItemTable
from serving.exploration.fresh_items import neighbor_priors
from serving.replica.category_neighbors import CategoryLeaderboards, Neighbors
from stream.records.batches import EventType

LAMPS, CHAIRS, OAK = 11, 12, 13


def make_items(*specs: tuple[tuple[int, ...], float, int, int]) -> ItemTable:
    """Items by categories, price, impressions and clicks."""
    items, n = ItemTable(), len(specs)
    rows = items.add_keys(np.arange(1, n + 1, dtype=np.uint64))
    categories = np.zeros((n, 4), np.uint64)
    for i, (item_categories, _, impressions, clicks) in enumerate(specs):
        categories[i, : len(item_categories)] = item_categories
        items.counters["total_counts"][i, [EventType.impression, EventType.click]] = impressions, clicks
    items.set_attributes(
        rows, categories, np.full(n, NO_TIME), np.array([price for _, price, _, _ in specs], np.float32)
    )
    return items


def find_similarities(items: ItemTable, row: int) -> dict[int, float]:
    """Similarity of an item's neighbors, by row."""
    neighbors = CategoryLeaderboards(items).find_neighbors(np.array([row], np.int32))
    is_neighbor = neighbors.similarity[0] > 0
    similarities = neighbors.similarity[0, is_neighbor].tolist()
    return dict(zip(neighbors.rows[0, is_neighbor].tolist(), similarities, strict=True))


def list_neighbors(neighbors: Neighbors, i: int) -> set[int]:
    """Rows of the neighbors of item i."""
    return set(neighbors.rows[i][neighbors.similarity[i] > 0].tolist())


def test_similarity_follows_shared_categories() -> None:
    items = make_items(((LAMPS, OAK), 9, 0, 0), ((LAMPS, OAK), 9, 5, 1), ((LAMPS,), 9, 5, 1), ((CHAIRS,), 9, 5, 1))

    assert find_similarities(items, 0) == {1: 1.0, 2: 0.5}


def test_similarity_follows_price_when_both_are_known() -> None:
    items = make_items(((LAMPS,), 9, 0, 0), ((LAMPS,), 9, 5, 1), ((LAMPS,), 19, 5, 1), ((LAMPS,), np.nan, 5, 1))

    assert find_similarities(items, 0) == {1: 1.0, 2: 0.5, 3: 1.0}


def test_neighbors_are_the_most_shown_items() -> None:
    items = make_items(*(((LAMPS,), 9.0, impressions, 0) for impressions in range(20)))

    assert set(find_similarities(items, 3)) == set(range(12, 20))


def test_item_without_a_category_has_no_neighbors() -> None:
    assert find_similarities(make_items(((), 9, 0, 0), ((), 9, 5, 1)), 0) == {}


def test_item_that_left_a_category_is_no_neighbor_there() -> None:
    items = make_items(((LAMPS,), 9, 0, 0), ((LAMPS,), 9, 5, 1))
    leaderboards = CategoryLeaderboards(items)
    items.catalog["categories"][1, 0] = CHAIRS

    assert not leaderboards.find_neighbors(np.array([0], np.int32)).similarity.any()


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 3)), max_size=120), st.integers(1, 20))
def test_updated_leaderboards_equal_those_of_a_checkpoint(steps: list[tuple[int, int]], size: int) -> None:
    items = make_items(*(((LAMPS + row % 2, OAK), 9.0, 0, 0) for row in range(30)))
    updated = CategoryLeaderboards(items)
    for start in range(0, len(steps), size):
        rows, impressions = np.array(steps[start : start + size]).T
        np.add.at(items.counters["total_counts"][:, EventType.impression], rows, impressions)
        updated.update(np.unique(rows).astype(np.int32))
    query_rows = np.arange(30, dtype=np.int32)
    updated_neighbors = updated.find_neighbors(query_rows)
    loaded_neighbors = CategoryLeaderboards(items).find_neighbors(query_rows)

    for row in range(30):
        assert list_neighbors(updated_neighbors, row) == list_neighbors(loaded_neighbors, row)


# Known truth: lamps are clicked often, chairs are not


def test_new_item_prior_follows_the_clicks_of_its_category() -> None:
    lamps = [((LAMPS,), 9.0, 1_000, clicks) for clicks in (90, 110, 100)]
    chairs = [((CHAIRS,), 9.0, 1_000, clicks) for clicks in (9, 11, 10)]
    items = make_items(((LAMPS,), 9, 0, 0), ((CHAIRS,), 9, 0, 0), ((OAK,), 9, 0, 0), *lamps, *chairs)
    prior = neighbor_priors(items, CategoryLeaderboards(items), np.arange(3, dtype=np.int32), 0.05, WarmStart())
    lamp_mean, chair_mean, oak_mean = prior.means

    assert 0.08 < lamp_mean < 0.1
    assert 0.01 < chair_mean < 0.03
    assert oak_mean == 0.05


def test_prior_std_falls_with_more_shown_neighbors() -> None:
    stds = []
    for n in range(5):
        items = make_items(((LAMPS,), 9, 0, 0), *[((LAMPS,), 9.0, 1_000, 100)] * n)
        prior = neighbor_priors(items, CategoryLeaderboards(items), np.zeros(1, np.int32), 0.05, WarmStart())
        stds.append(float(prior.stds[0]))

    assert stds == sorted(stds, reverse=True)
    assert len(set(stds)) == 5
