"""Maximal marginal relevance, freshness and fatigue."""

import numpy as np

from serving.rules.diversity import diversify
from stream.clock import DAY_MS
from tests.support.serving_loop import NOW, LiveLoop, list_item_ids

SCORES = np.array([3.0, 2.9, 2.8, 1.0], np.float32)
CATEGORIES = np.array([[1, 2], [1, 2], [1, 2], [3, 0]], np.uint64)


def test_order_without_diversity_is_by_score() -> None:
    assert diversify(SCORES, CATEGORIES, 0.0, 4).tolist() == [0, 1, 2, 3]


def test_diversity_prefers_items_unlike_those_above() -> None:
    assert diversify(SCORES, CATEGORIES, 0.6, 4).tolist() == [0, 3, 1, 2]
    assert diversify(SCORES, CATEGORIES, 0.6, 1).tolist() == [0, 1, 2, 3]


def test_diverse_slate_alternates_categories(loop: LiveLoop) -> None:
    loop.put_items(*(f"a{n}" for n in range(6)), categories=["a"])
    loop.put_items(*(f"b{n}" for n in range(6)), categories=["b"])

    response = loop.recommend(k=2, explore=False, rules={"diversity": 1})

    assert {item_id[0] for item_id in list_item_ids(response)} == {"a", "b"}


def test_fresh_items_rank_higher(loop: LiveLoop) -> None:
    for n in range(6):
        loop.put_items(f"i{n}", created_ts=NOW - n * DAY_MS)

    rules = {"freshness": {"factor": 2, "half_life": 43200}}
    response = loop.recommend(explore=False, rules=rules)

    assert list_item_ids(response)[0] == "i0"
    assert response["rules_applied"]["freshness"] == 6


def test_items_that_were_shown_often_rest(loop: LiveLoop) -> None:
    loop.put_items(*(f"i{n}" for n in range(8)))
    fatigue = {"fatigue": {"shown": 2, "factor": 0.001}}
    seen = set()
    for _ in range(8):
        seen |= set(list_item_ids(loop.recommend(k=2, explore=False, rules=fatigue)))
        loop.run_until_idle()

    assert len(seen) > 4
