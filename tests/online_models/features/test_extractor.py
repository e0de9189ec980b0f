from collections.abc import Sequence

import numpy as np
import pytest

from online_models.features.extractor import FeatureExtractor
from online_models.features.served_features import FeatureCache
from online_models.state.item_table import ItemLists, ItemTable, UserQueries
from online_models.state.workspace import Workspace
from tests.support.batches import ITEMS, START, lists, questions


class Fixed:
    """A scorer that gives every entry the same score."""

    names: tuple[str, ...] = ("fixed",)
    scales: tuple[float, ...] = (1.0,)

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        out[:, column] = np.e - 1


def asked(
    history: list[int], chosen: list[int], price: list[float] | None = None, shown: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """Features of one list by name."""
    items = ItemTable()
    items.add_keys(ITEMS)
    categories = np.zeros((200, 4), np.uint64)
    categories[:, 0] = 1 + np.arange(200) % 8
    items.set_attributes(np.arange(200), categories, np.full(200, START), np.full(200, np.nan, np.float32))
    features = FeatureExtractor(items, (Fixed(),), Workspace())
    slates = items.resolve_lists(lists([chosen]))
    if price is not None:
        slates = ItemLists(slates.start, slates.row, slates.position, np.array(price, np.float32))
    x = features.extract(
        items.resolve_queries(questions(1, [history], np.array([START + 3_600_000]), [list(shown)])), slates
    )
    return dict(zip(features.names, x.T, strict=True))


def test_names_are_unique_and_as_many_as_columns() -> None:
    features = FeatureExtractor(ItemTable(), (Fixed(),), Workspace())

    assert len(set(features.names)) == len(features)


def test_items_met_before_are_known_with_how_often_and_how_long_ago() -> None:
    told = asked([3, 5, 3, 4], [3, 4, 9])

    assert told["user_item_actions"] == pytest.approx(np.log1p([2, 1, 0]))
    assert told["user_item_rank_inverse"] == pytest.approx([1 / 2, 1, 0])
    assert told["user_item_is_latest"].tolist() == [0, 1, 0]


def test_the_share_of_a_category_is_of_the_latest_history() -> None:
    told = asked([8, 16, 1], [0, 1, 2])

    assert told["category_latest"].tolist() == [0, 1, 0]
    assert told["category_share"][0] > told["category_share"][1] > told["category_share"][2] == 0


def test_what_was_shown_is_known_by_item_and_by_category() -> None:
    told = asked([8, 16, 1], [0, 1, 2, 9], shown=[9, 8, 9, 2, 4])

    assert told["user_item_impressions"] == pytest.approx(np.log1p([0, 0, 1, 2]))
    assert told["user_item_impression_rank_inverse"] == pytest.approx([0, 0, 1 / 2, 1 / 3])
    assert told["category_shown"] == pytest.approx(np.log1p([1, 2, 1, 2]))
    acted, seen = np.array([2, 1, 0, 1]), np.array([1, 2, 1, 2])
    assert told["category_rate"] == pytest.approx(np.log(8 * (acted + 0.5) / (seen + 4)), abs=1e-6)


def test_an_item_of_several_categories_counts_in_each_with_a_part_of_one() -> None:
    items = ItemTable()
    items.add_keys(ITEMS[:3])
    categories = np.array([[7, 8, 0, 0], [7, 0, 0, 0], [8, 9, 0, 0]], np.uint64)
    items.set_attributes(np.arange(3), categories, np.full(3, START), np.full(3, np.nan, np.float32))
    features = FeatureExtractor(items, (), Workspace())
    asked = questions(1, [[0, 1]], np.array([START]), [[0, 2, 2]])
    x = dict(
        zip(
            features.names,
            features.extract(items.resolve_queries(asked), items.resolve_lists(lists([[0, 1, 2]]))).T,
            strict=True,
        )
    )

    assert x["category_latest"].tolist() == [1, 1, 0]
    assert x["category_share"] == pytest.approx(np.array([1 + 0.9, 1 + 0.45, 0.45]) / 2.9)
    assert x["category_shown"] == pytest.approx(np.log1p([2, 0.5, 2.5]))


def test_prices_are_told_against_the_list() -> None:
    told = asked([], [0, 1, 2], [10, 20, 40])

    assert told["price"] == pytest.approx(np.log([1 / 2, 1, 2]), abs=1e-6)
    assert told["price_rank"] == pytest.approx([0, 1 / 3, 2 / 3])


@pytest.mark.parametrize("price", [np.nan, -1.0, 0.0, np.inf, 3e38])
def test_a_price_that_is_none_is_left_out(price: float) -> None:
    told = asked([], [0, 1, 2], [price, 20, 20])

    assert told["price"] == pytest.approx([0, 0, 0], abs=1e-6)


def test_an_unknown_item_has_only_what_all_share() -> None:
    items = ItemTable()
    features = FeatureExtractor(items, (), Workspace())
    x = features.extract(
        items.resolve_queries(questions(1, [[]], np.array([START]))), items.resolve_lists(lists([[0]], shown=False))
    )
    told = dict(zip(features.names, x[0], strict=True))

    assert {name for name, value in told.items() if value} <= {"list_length", "hour_sin", "hour_cos"}


def test_scores_are_spread_and_told_against_the_best() -> None:
    told = asked([], [0, 1])

    assert told["fixed"] == pytest.approx([1, 1])
    assert told["fixed_minus_best"] == pytest.approx([0, 0])


def test_scratch_space_is_left_as_it_was() -> None:
    items, scratch = ItemTable(), Workspace()
    items.add_keys(ITEMS)
    FeatureExtractor(items, (), scratch).extract(
        items.resolve_queries(questions(1, [[1, 2]], np.array([START]))), items.resolve_lists(lists([[1, 5, 1]]))
    )

    assert (scratch.entry_index == -1).all()


def test_what_was_remembered_comes_back_until_it_is_overwritten() -> None:
    remembered = FeatureCache(2, rows=8, lists=8)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    remembered.put(np.array([5, 6], np.uint64), np.array([0, 3, 4]), x)

    assert np.array_equal(remembered.get(5, 3), x[:3])  # type: ignore[arg-type]
    assert remembered.get(7, 1) is None

    remembered.put(np.array([9, 10], np.uint64), np.array([0, 4, 4]), x)
    remembered.put(np.array([11], np.uint64), np.array([0, 4]), x)
    assert remembered.get(5, 3) is None
    assert np.array_equal(remembered.get(11, 4), x)  # type: ignore[arg-type]


def test_an_impression_is_not_mistaken_for_one_on_the_same_slot() -> None:
    remembered = FeatureCache(2, rows=8, lists=8)
    remembered.put(np.array([5], np.uint64), np.array([0, 1]), np.ones((1, 2), np.float32))

    assert remembered.get(13, 1) is None
