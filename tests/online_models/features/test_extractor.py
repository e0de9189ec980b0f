from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from online_models.features.extractor import FeatureExtractor
from online_models.state.item_table import ItemLists, ItemTable, UserQueries
from online_models.state.workspace import Workspace
from stream.clock import HOUR_MS
from stream.records.batches import EventType
from stream.records.signs import history_types
from tests.support.batches import ITEMS, START, make_lists, make_queries


class ConstantScorer:
    """Scorer that gives every entry the same score."""

    names: tuple[str, ...] = ("fixed",)
    scales: tuple[float, ...] = (1.0,)

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        out[:, column] = np.e - 1


def extract(
    history: list[int],
    numbers: list[int],
    price: list[float] | None = None,
    shown: Sequence[int] = (),
    disliked: Sequence[int] = (),
    position: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the features of one list by name; items of `disliked` have low ratings."""
    items = ItemTable()
    items.add_keys(ITEMS)
    categories = np.zeros((200, 4), np.uint64)
    categories[:, 0] = 1 + np.arange(200) % 8
    items.set_attributes(np.arange(200), categories, np.full(200, START), np.full(200, np.nan, np.float32))
    features = FeatureExtractor(items, (ConstantScorer(),))
    item_lists = items.resolve_lists(make_lists([numbers]))
    if position is not None:
        item_lists = item_lists._replace(position=np.full(len(numbers), position, np.int16))
    if price is not None:
        item_lists = item_lists._replace(price=np.array(price, np.float32))
    queries = make_queries(1, [history], np.array([START + HOUR_MS]), [list(shown)])
    is_low = np.isin(queries.history_item, ITEMS[list(disliked)])
    rating = np.array([EventType.rating], np.uint8)
    low_type = history_types(rating, np.array([-1], np.int8))[0]
    queries = replace(queries, history_type=np.where(is_low, low_type, queries.history_type))
    x = features.extract(items.resolve_queries(queries), item_lists)
    return dict(zip(features.names, x.T, strict=True))


def test_every_column_has_a_unique_name() -> None:
    features = FeatureExtractor(ItemTable(), (ConstantScorer(),))

    assert len(set(features.names)) == len(features)


def test_past_actions_give_number_and_recency() -> None:
    x = extract([3, 5, 3, 4], [3, 4, 9])

    assert x["user_item_actions"] == pytest.approx(np.log1p([2, 1, 0]))
    assert x["user_item_rank_inverse"] == pytest.approx([1 / 2, 1, 0])
    assert x["user_item_is_latest"].tolist() == [0, 1, 0]


def test_dislikes_have_columns_of_their_own() -> None:
    x = extract([3, 11, 5], [3, 11, 19, 5, 4], disliked=[3, 11])  # 3, 11 and 19 are of one category

    assert x["user_item_dislikes"] == pytest.approx(np.log1p([1, 1, 0, 0, 0]))
    assert x["category_disliked"] == pytest.approx(np.log1p([2, 2, 2, 0, 0]))
    for name in ("user_item_actions", "user_item_recency", "user_item_is_latest", "category_share", "category_latest"):
        assert x[name][:3].tolist() == [0, 0, 0], name
        assert x[name][3] > 0, name


def test_places_beside_the_latest_item_of_a_shown_list_are_marked() -> None:
    x = extract([7, 3, 99], [1, 2, 3, 4, 5, 6, 7])  # 3 is the latest item of the list, 7 an earlier one

    assert x["next_to_latest_before_2"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert x["next_to_latest_before"].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert x["next_to_latest_after"].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert x["next_to_latest_after_2"].tolist() == [0, 0, 0, 0, 1, 0, 0]
    assert x["list_history_items"] == pytest.approx(np.full(7, np.log1p(2)))


def test_list_without_places_or_without_the_users_items_marks_none() -> None:
    names = [f"next_to_latest_{name}" for name in ("after", "after_2", "before", "before_2")] + ["list_history_items"]
    unplaced, unknown = extract([3], [2, 3, 4], position=-1), extract([9], [2, 3, 4])

    assert not any(x[name].any() for x in (unplaced, unknown) for name in names)


def test_category_share_follows_the_latest_history() -> None:
    x = extract([8, 16, 1], [0, 1, 2])

    assert x["category_latest"].tolist() == [0, 1, 0]
    assert x["category_share"][0] > x["category_share"][1] > x["category_share"][2] == 0


def test_impressions_count_by_item_and_by_category() -> None:
    x = extract([8, 16, 1], [0, 1, 2, 9], shown=[9, 8, 9, 2, 4])

    assert x["user_item_impressions"] == pytest.approx(np.log1p([0, 0, 1, 2]))
    assert x["user_item_impression_rank_inverse"] == pytest.approx([0, 0, 1 / 2, 1 / 3])
    assert x["category_shown"] == pytest.approx(np.log1p([1, 2, 1, 2]))
    n_actions, n_shown = np.array([2, 1, 0, 1]), np.array([1, 2, 1, 2])
    assert x["category_rate"] == pytest.approx(np.log(8 * (n_actions + 0.5) / (n_shown + 4)), abs=1e-6)


def test_several_categories_share_one_action_equally() -> None:
    items = ItemTable()
    items.add_keys(ITEMS[:3])
    categories = np.array([[7, 8, 0, 0], [7, 0, 0, 0], [8, 9, 0, 0]], np.uint64)
    items.set_attributes(np.arange(3), categories, np.full(3, START), np.full(3, np.nan, np.float32))
    features = FeatureExtractor(items)
    queries = make_queries(1, [[0, 1]], np.array([START]), [[0, 2, 2]])
    x = dict(
        zip(
            features.names,
            features.extract(items.resolve_queries(queries), items.resolve_lists(make_lists([[0, 1, 2]]))).T,
            strict=True,
        )
    )

    assert x["category_latest"].tolist() == [1, 1, 0]
    assert x["category_share"] == pytest.approx(np.array([1 + 0.9, 1 + 0.45, 0.45]) / 2.9)
    assert x["category_shown"] == pytest.approx(np.log1p([2, 0.5, 2.5]))


def test_price_is_relative_to_the_list() -> None:
    x = extract([], [0, 1, 2], [10, 20, 40])

    assert x["price"] == pytest.approx(np.log([1 / 2, 1, 2]), abs=1e-6)
    assert x["price_rank"] == pytest.approx([0, 1 / 3, 2 / 3])


@pytest.mark.parametrize("price", [np.nan, -1.0, 0.0, np.inf, 3e38])
def test_invalid_price_is_ignored(price: float) -> None:
    x = extract([], [0, 1, 2], [price, 20, 20])

    assert x["price"] == pytest.approx([0, 0, 0], abs=1e-6)


def test_unknown_item_has_context_features_only() -> None:
    items = ItemTable()
    features = FeatureExtractor(items)
    x = features.extract(
        items.resolve_queries(make_queries(1, [[]], np.array([START]))),
        items.resolve_lists(make_lists([[0]], shown=False)),
    )
    values = dict(zip(features.names, x[0], strict=True))

    assert {name for name, value in values.items() if value} <= {"list_length", "hour_sin", "hour_cos"}


def test_scores_are_logarithmic_and_relative_to_the_best() -> None:
    x = extract([], [0, 1])

    assert x["fixed"] == pytest.approx([1, 1])
    assert x["fixed_minus_best"] == pytest.approx([0, 0])


def test_workspace_is_left_clean() -> None:
    items, workspace = ItemTable(), Workspace()
    items.add_keys(ITEMS)
    FeatureExtractor(items, (), workspace).extract(
        items.resolve_queries(make_queries(1, [[1, 2]], np.array([START]))),
        items.resolve_lists(make_lists([[1, 5, 1]])),
    )

    assert (workspace.entry_index == -1).all()
