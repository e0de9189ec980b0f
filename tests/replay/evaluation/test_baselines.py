"""Baselines rank and score as computed by hand, on logs of a few events."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from replay.evaluation.baselines import (
    Cooccurrence,
    DecayedClicks,
    DecayedCounts,
    DecayedCTR,
    DecayedPopularity,
    ItemIndex,
    OriginalOrder,
    PopularityBaseline,
)
from replay.evaluation.live_pipeline import Pipeline
from stream.clock import DAY_MS, ManualClock
from stream.config import EventsSettings, Settings
from stream.ids import hash_id, hash_ids
from stream.records.batches import ExampleBatch, Kind

_NO_KEYS = np.zeros(0, np.uint64)


def make_batch(events: Sequence[dict[str, Any]]) -> ExampleBatch:
    """Join the events in one micro-batch, as the stream worker does."""
    lines = [msgspec.json.encode({"event_id": f"e{i}", **event}) for i, event in enumerate(events)]
    batch = Pipeline(Settings(events=EventsSettings(max_age=0)), 10, ManualClock(10**12)).stream(lines)
    assert batch is not None
    return batch


def make_clicks(user: str, items: str, ts: int = 0) -> list[dict[str, Any]]:
    return [{"type": "click", "user_id": user, "item_id": item, "ts": ts + 1000 * i} for i, item in enumerate(items)]


def make_impression(impression: str, items: str, ts: int = 0) -> dict[str, Any]:
    return {"type": "impression", "impression_id": impression, "user_id": "u", "items": list(items), "ts": ts}


def test_count_halves_in_a_half_life() -> None:
    index = ItemIndex()
    index.add(hash_ids(["a", "b"]))
    counts = DecayedCounts(index, half_life=10.0)
    counts.add(hash_ids(["a", "a", "b"]), np.array([0, 10_000, 10_000]))

    assert counts.decayed_at(20_000).tolist() == pytest.approx([0.75, 0.5])


def test_counts_stay_finite_over_many_half_lives() -> None:
    index = ItemIndex()
    index.add(hash_ids(["a", "b"]))
    counts = DecayedCounts(index, half_life=1.0)
    for ts in range(0, 10_000_000, 100_000):
        counts.add(hash_ids(["a"]), np.array([ts]))

    assert counts.decayed_at(9_900_000).tolist() == pytest.approx([1.0, 0.0])


def test_popularity_ranks_by_count_without_excluded_items() -> None:
    batch = make_batch(make_clicks("u", "aaabbc"))
    index = ItemIndex()
    baseline = PopularityBaseline(index, k=2)
    index.add(batch.lists.item)
    baseline.learn(batch)

    everything = baseline.rank_target(batch, 0, _NO_KEYS, hash_id("c"))
    without_a = baseline.rank_target(batch, 0, hash_ids(["a"]), hash_id("c"))

    assert (everything.rank, everything.top.tolist()) == (2.0, hash_ids(["a", "b"]).tolist())
    assert (without_a.rank, without_a.top.tolist()) == (1.0, hash_ids(["b", "c"]).tolist())


def test_unknown_and_excluded_targets_have_no_rank() -> None:
    batch = make_batch(make_clicks("u", "ab"))
    index = ItemIndex()
    baseline = PopularityBaseline(index, k=2)
    index.add(batch.lists.item)
    baseline.learn(batch)

    assert baseline.rank_target(batch, 0, _NO_KEYS, hash_id("z")).rank == np.inf
    assert baseline.rank_target(batch, 0, hash_ids(["a"]), hash_id("a")).rank == np.inf


def test_decayed_popularity_uses_the_half_life_with_most_hits() -> None:
    old, new = make_clicks("u", "aaaaaa"), make_clicks("v", "b", ts=DAY_MS)
    batch = make_batch([*old, *new])
    index = ItemIndex()
    baseline = DecayedPopularity(index, k=1)
    index.add(batch.lists.item)
    baseline.learn(batch)  # with a half-life of a week a is ahead, with an hour b

    assert baseline.rank_target(batch, 0, _NO_KEYS, hash_id("a")).top.tolist() == hash_ids(["b"]).tolist()
    assert baseline.rank_target(batch, 0, _NO_KEYS, hash_id("a")).top.tolist() == hash_ids(["a"]).tolist()


def test_dislikes_do_not_count_as_popularity() -> None:
    batch = make_batch([*make_clicks("u", "a"), {"type": "dislike", "user_id": "u", "item_id": "b", "ts": 5000}])
    index = ItemIndex()
    baseline = PopularityBaseline(index, k=2)
    index.add(batch.lists.item)
    baseline.learn(batch)

    assert baseline.rank_target(batch, 0, _NO_KEYS, hash_id("a")).rank == 0.0


def test_later_items_get_twice_the_weight_of_earlier_ones() -> None:
    batch = make_batch([*make_clicks("u", "abc"), *make_clicks("v", "b", ts=9000), *make_clicks("v", "z", ts=10_000)])
    index = ItemIndex()
    baseline = Cooccurrence(index, k=10)
    index.add(batch.lists.item)
    baseline.learn(batch)
    last = len(batch) - 1  # v has the history b: b→c 1 and b→z 1 forward, b→a 0.5 backward

    assert baseline.rank_target(batch, last, hash_ids(["b"]), hash_id("a")).rank == 2.0
    assert baseline.rank_target(batch, last, hash_ids(["b"]), hash_id("c")).rank == 0.5


def test_cooccurrence_sums_over_the_last_ten_actions() -> None:
    batch = make_batch(
        [*make_clicks("u", "axbx", ts=0), *make_clicks("v", "ay", ts=9000), *make_clicks("w", "abq", ts=20_000)]
    )
    index = ItemIndex()
    baseline = Cooccurrence(index, k=10)
    before = batch.take(np.arange(6))
    index.add(before.lists.item)
    baseline.learn(before)
    last = len(batch) - 1  # w has the history a, b: x gets 2 + 1.5 after a and b, y gets 1

    assert baseline.rank_target(batch, last, hash_ids(["a", "b"]), hash_id("x")).rank == 0.0
    assert baseline.rank_target(batch, last, hash_ids(["a", "b"]), hash_id("y")).rank == 1.0


def test_users_without_history_get_popular_items() -> None:
    batch = make_batch([*make_clicks("u", "aab"), *make_clicks("v", "b", ts=9000)])
    index = ItemIndex()
    baseline = Cooccurrence(index, k=10)
    before = batch.take(np.arange(3))
    index.add(before.lists.item)
    baseline.learn(before)

    assert baseline.rank_target(batch, 3, _NO_KEYS, hash_id("a")).rank == 0.0
    assert baseline.rank_target(batch, 3, _NO_KEYS, hash_id("b")).rank == 1.0


def test_original_order_prefers_the_first_item() -> None:
    batch = make_batch([make_impression("i", "abc")])
    scores = OriginalOrder().score_lists(batch, np.array([0])).scores

    assert scores.tolist() == sorted(scores, reverse=True)


def test_click_through_rate_counts_clicks_per_impression() -> None:
    click = {"type": "click", "user_id": "u", "item_id": "a", "impression_id": "i", "ts": 0}
    batch = make_batch([make_impression("i", "ab"), click, make_impression("j", "cb")])
    index = ItemIndex()
    clicks, rate = DecayedClicks(index, np.inf), DecayedCTR(index, np.inf)
    index.add(batch.lists.item)
    for baseline in (clicks, rate):
        baseline.learn(batch)
    rows = np.flatnonzero(batch.kind == Kind.shown)
    global_rate = 2 / 24

    assert clicks.score_lists(batch, rows).scores.tolist() == [1, 0, 0, 0]
    assert rate.score_lists(batch, rows).scores.tolist() == pytest.approx(
        [(1 + 20 * global_rate) / 21, 20 * global_rate / 22, 20 * global_rate / 21, 20 * global_rate / 22]
    )
