"""What is like a fresh item, by categories and price, and how well shown."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits.warm_start import WarmStart
from online_models.state.item_table import NO_TIME, Items
from serving.exploration.fresh_items import lie_around
from serving.replica.category_neighbors import CategoryBoards
from stream.records.batches import EventType

LAMPS, CHAIRS, OAK = 11, 12, 13


def shop(*told: tuple[tuple[int, ...], float, int, int]) -> Items:
    """Items by categories, price, places shown and clicks."""
    items, n = Items(), len(told)
    rows = items.admit(np.arange(1, n + 1, dtype=np.uint64))
    categories = np.zeros((n, 4), np.uint64)
    for i, (of, _, shown, clicks) in enumerate(told):
        categories[i, : len(of)] = of
        items.counters["ever"][i, [EventType.impression, EventType.click]] = shown, clicks
    items.describe(rows, categories, np.full(n, NO_TIME), np.array([price for _, price, _, _ in told], np.float32))
    return items


def alike(items: Items, row: int) -> dict[int, float]:
    """Similarity of what is like an item, by row."""
    found = CategoryBoards(items).alike(np.array([row], np.int32))
    near = found.similarity[0] > 0
    return dict(zip(found.rows[0, near].tolist(), found.similarity[0, near].tolist(), strict=True))


def test_items_are_alike_by_the_categories_that_they_share() -> None:
    items = shop(((LAMPS, OAK), 9, 0, 0), ((LAMPS, OAK), 9, 5, 1), ((LAMPS,), 9, 5, 1), ((CHAIRS,), 9, 5, 1))

    assert alike(items, 0) == {1: 1.0, 2: 0.5}


def test_items_are_alike_by_price_too_unless_nobody_told_it() -> None:
    items = shop(((LAMPS,), 9, 0, 0), ((LAMPS,), 9, 5, 1), ((LAMPS,), 19, 5, 1), ((LAMPS,), np.nan, 5, 1))

    assert alike(items, 0) == {1: 1.0, 2: 0.5, 3: 1.0}


def test_what_was_never_shown_tells_nothing_and_what_was_shown_most_is_preferred() -> None:
    items = shop(*(((LAMPS,), 9.0, shown, 0) for shown in range(20)))

    assert set(alike(items, 3)) == set(range(12, 20))


def test_an_item_without_a_category_is_like_no_other() -> None:
    assert alike(shop(((), 9, 0, 0), ((), 9, 5, 1)), 0) == {}


def test_what_has_left_a_category_is_not_found_there() -> None:
    items = shop(((LAMPS,), 9, 0, 0), ((LAMPS,), 9, 5, 1))
    boards = CategoryBoards(items)
    items.catalogue["categories"][1, 0] = CHAIRS

    assert not boards.alike(np.array([0], np.int32)).similarity.any()


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 3)), max_size=120), st.integers(1, 20))
def test_boards_that_were_kept_up_are_those_that_a_checkpoint_gives(steps: list[tuple[int, int]], size: int) -> None:
    items = shop(*(((LAMPS + row % 2, OAK), 9.0, 0, 0) for row in range(30)))
    followed = CategoryBoards(items)
    for begin in range(0, len(steps), size):
        rows, shown = np.array(steps[begin : begin + size]).T
        np.add.at(items.counters["ever"][:, EventType.impression], rows, shown)
        followed.learn(np.unique(rows).astype(np.int32))
    asked = np.arange(30, dtype=np.int32)
    kept, loaded = followed.alike(asked), CategoryBoards(items).alike(asked)

    for row in range(30):
        of_kept, of_loaded = (set(one.rows[row][one.similarity[row] > 0].tolist()) for one in (kept, loaded))
        assert of_kept == of_loaded


# Truth is known: lamps are liked, and chairs are not


def test_a_new_item_of_a_disliked_category_starts_lower_than_one_of_a_liked_one() -> None:
    lamps = [((LAMPS,), 9.0, 1_000, clicks) for clicks in (90, 110, 100)]
    chairs = [((CHAIRS,), 9.0, 1_000, clicks) for clicks in (9, 11, 10)]
    items = shop(((LAMPS,), 9, 0, 0), ((CHAIRS,), 9, 0, 0), ((OAK,), 9, 0, 0), *lamps, *chairs)
    prior = lie_around(items, CategoryBoards(items), np.arange(3, dtype=np.int32), 0.05, WarmStart())
    of_lamps, of_chairs, of_oak = prior.means

    assert 0.08 < of_lamps < 0.1
    assert 0.01 < of_chairs < 0.03
    assert of_oak == 0.05


def test_the_more_like_it_were_shown_the_surer_one_is_of_a_new_item() -> None:
    spreads = []
    for n in range(5):
        items = shop(((LAMPS,), 9, 0, 0), *[((LAMPS,), 9.0, 1_000, 100)] * n)
        around = lie_around(items, CategoryBoards(items), np.zeros(1, np.int32), 0.05, WarmStart())
        spreads.append(float(around.spreads[0]))

    assert spreads == sorted(spreads, reverse=True)
    assert len(set(spreads)) == 5
