"""Filters select the same items in a list of rows and in the whole catalog."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.filters.columns import ItemColumns
from serving.filters.language import Filters
from serving.filters.mask_cache import MaskCache
from serving.filters.matching import explain_unknown_attributes, match

ITEMS: list[dict[str, Any] | None] = [
    {"categories": ["a", "x"], "price": 1, "creator": "s1", "color": "red", "region": ["DE", "AT"], "created_ts": 1000},
    {"categories": ["b", "x"], "price": 2.5, "creator": "s2", "color": "blue", "region": ["US"], "created_ts": 2000},
    {"categories": ["a"], "stock": 5, "color": "1", "specs": {"volts": 12}, "attributes": {"sale": True}},
    {"categories": [], "stock": 0, "color": 1, "attributes": {"sale": False}},
    None,
]


def find(filters: dict[str, Any], items: list[dict[str, Any] | None] = ITEMS) -> list[int]:
    columns, rows = ItemColumns(), np.arange(len(items))
    columns.write(rows, items)
    decoded = msgspec.convert(filters, Filters)
    mask = match(columns, decoded, slice(0, rows.size), rows.size)

    assert match(columns, decoded, rows[::-1], rows.size).tolist() == mask[::-1].tolist()
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"categories": ["a", "b"]}, [0, 1, 2]),
        ({"categories": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]}, [0, 1, 2]),
        ({"all_categories": ["a", "x"]}, [0]),
        ({"not_categories": ["a"]}, [1, 3, 4]),
        ({"creators": ["s1"]}, [0]),
        ({"not_creators": ["s1"]}, [1, 2, 3, 4]),
        ({"min_price": 1, "max_price": 2}, [0]),
        ({"min_stock": 1}, [2]),
        ({"created_after": "1970-01-01T00:00:02Z"}, [1]),
        ({"created_before": 1000}, [0]),
        ({"attributes": {"color": "red"}}, [0]),
        ({"attributes": {"color": ["red", "blue"]}}, [0, 1]),
        ({"attributes": {"color": "1"}}, [2]),
        ({"attributes": {"color": 1}}, [3]),
        ({"attributes": {"region": "DE"}}, [0]),
        ({"attributes": {"region": {"contains": ["DE", "AT"]}}}, [0]),
        ({"attributes": {"region": {"contains": ["DE", "US"]}}}, []),
        ({"attributes": {"color": {"in": []}}}, []),
        ({"attributes": {"specs.volts": {"min": 10, "max": 12}}}, [2]),
        ({"attributes": {"sale": True}}, [2]),
        ({"attributes": {"sale": {"equal": False}}}, [3]),
        ({"attributes": {"unknown": "red"}}, []),
        ({"or": [{"categories": ["b"]}, {"min_stock": 1}]}, [1, 2]),
        ({"or": []}, []),
        ({"and": [{"categories": ["a"]}, {"attributes": {"color": "red"}}]}, [0]),
        ({"not": {"categories": ["a"]}}, [1, 3, 4]),
        ({"categories": ["x"], "not": {"or": [{"creators": ["s1"]}, {"max_price": 0}]}}, [1]),
    ],
    ids=str,
)
def test_conditions_select_items(filters: dict[str, Any], passing: list[int]) -> None:
    assert find(filters) == passing


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=20),
    st.sets(st.sampled_from("abcdefg")),
)
def test_categories_match_like_sets(item_categories: list[list[str]], names: set[str]) -> None:
    items: list[dict[str, Any] | None] = [{"categories": categories} for categories in item_categories]
    sets = [set(categories) for categories in item_categories]

    assert find({"categories": sorted(names)}, items) == [i for i, own in enumerate(sets) if own & names]
    assert find({"all_categories": sorted(names)}, items) == [i for i, own in enumerate(sets) if own >= names]
    assert find({"not_categories": sorted(names)}, items) == [i for i, own in enumerate(sets) if not own & names]


def test_an_unknown_attribute_is_reported_with_the_nearest() -> None:
    columns = ItemColumns()
    columns.write(np.array([0]), [{"language": "de"}])
    filters = msgspec.convert({"or": [{"attributes": {"langauge": "de"}}]}, Filters)

    assert "'langauge'; the nearest is 'language'" in explain_unknown_attributes(columns, filters)


def test_a_cached_mask_follows_the_catalog() -> None:
    columns = ItemColumns()
    columns.write(np.arange(3), [{"color": "red"}, {"color": "blue"}, None])
    masks, filters = MaskCache(columns), msgspec.convert({"attributes": {"color": "red"}}, Filters)

    assert masks.match(filters, 3).tolist() == [True, False, False]
    columns.write(np.array([1, 2]), [{"color": "red"}, {"color": "red"}])
    assert masks.match(filters, 3).tolist() == [True, True, True]
    columns.clear(slice(1, None))
    assert masks.match(filters, 2).tolist() == [True, False]


def test_fields_of_the_item_count_before_its_attributes() -> None:
    attributes = {"price": 700, "creator": "zz", "color": "green", "size": 5}
    items: list[dict[str, Any] | None] = [
        {"attributes": attributes, "price": 5, "color": "red"},
        {"price": 5, "color": "red", "attributes": attributes},
    ]

    assert find({"max_price": 10, "attributes": {"color": "red", "size": 5}}, items) == [0, 1]
    assert find({"or": [{"min_price": 600}, {"creators": ["zz"]}, {"attributes": {"color": "green"}}]}, items) == []
    assert find({"attributes": {"attributes.price": 700}}, items) == [0, 1]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"attributes": {"size": {}}}, "the condition is empty"),
        ({"attributes": {"size": {"equal": None}}}, "the condition is empty"),
        ({"attributes": {"size": {"contains": []}}}, "contains is \\[\\]"),
        ({"created_after": 1000, "created_before": 0}, "created_after is later"),
        ({"not": {"created_after": "2026-01-02", "created_before": "2026-01-01"}}, "created_after is later"),
    ],
)
def test_condition_that_says_nothing_or_cannot_hold_is_refused(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(filters, Filters)
