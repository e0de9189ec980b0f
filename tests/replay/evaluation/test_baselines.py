"""Baselines rank and score as computed by hand, on logs of a few events."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from replay.evaluation.baselines.cooccurrence import Cooccurrence
from replay.evaluation.baselines.decayed_counts import DecayedCounts
from replay.evaluation.baselines.item_index import ItemIndex
from replay.evaluation.baselines.popularity import DecayedPopularity, PopularityBaseline
from replay.evaluation.baselines.ranking import make_queries
from replay.evaluation.baselines.shown_lists import DecayedClicks, DecayedCTR, OriginalOrder
from replay.evaluation.live_pipeline import Pipeline
from replay.evaluation.progressive import CandidateModel
from stream.clock import DAY_MS, ManualClock
from stream.config import EventsSettings, Settings
from stream.ids import hash_ids
from stream.records.batches import ExampleBatch, Kind


def rank(model: CandidateModel, batch: ExampleBatch, row: int, excluded: str, target: str) -> tuple[float, list[int]]:
    """Rank of the target in the query of a row, and the keys of the first items."""
    queries = make_queries(np.array([row]), hash_ids([target]), [hash_ids(list(excluded)).tolist()])
    results = model.rank_targets(batch, queries)
    return results.rank[0], results.top[0][results.top[0] > 0].tolist()


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

    assert rank(baseline, batch, 0, "", "c") == (2.0, hash_ids(["a", "b"]).tolist())
    assert rank(baseline, batch, 0, "a", "c") == (1.0, hash_ids(["b", "c"]).tolist())


def test_unknown_and_excluded_targets_have_no_rank() -> None:
    batch = make_batch(make_clicks("u", "ab"))
    index = ItemIndex()
    baseline = PopularityBaseline(index, k=2)
    index.add(batch.lists.item)
    baseline.learn(batch)

    assert rank(baseline, batch, 0, "", "z")[0] == np.inf
    assert rank(baseline, batch, 0, "a", "a")[0] == np.inf


def test_decayed_popularity_uses_the_half_life_with_most_hits() -> None:
    old, new = make_clicks("u", "aaaaaa"), make_clicks("v", "b", ts=DAY_MS)
    batch = make_batch([*old, *new])
    index = ItemIndex()
    baseline = DecayedPopularity(index, k=1)
    index.add(batch.lists.item)
    baseline.learn(batch)  # with a half-life of a week a is ahead, with an hour b

    assert rank(baseline, batch, 0, "", "a")[1] == hash_ids(["b"]).tolist()
    assert rank(baseline, batch, 0, "", "a")[1] == hash_ids(["a"]).tolist()


def test_queries_of_a_batch_are_ranked_as_one_by_one() -> None:
    batch = make_batch(
        [*make_clicks("u", "abcab"), *make_clicks("v", "bca", ts=9000), *make_clicks("w", "ca", ts=99_000)]
    )
    index = ItemIndex()
    together, one_by_one = ([cls(index, k=2) for cls in (DecayedPopularity, Cooccurrence)] for _ in range(2))
    index.add(batch.lists.item)
    for model in (*together, *one_by_one):
        model.learn(batch)
    rows, targets = np.arange(4, 10), hash_ids(list("abcabz"))
    excluded = [hash_ids(list(items)).tolist() for items in ("", "a", "bc", "", "c", "")]
    queries = make_queries(rows, targets, excluded)
    for model, single in zip(together, one_by_one, strict=True):
        results = model.rank_targets(batch, queries)
        parts = [single.rank_targets(batch, queries.take(i, i + 1)) for i in range(len(queries))]

        assert results.rank.tolist() == [part.rank[0] for part in parts]
        assert results.top.tolist() == [part.top[0].tolist() for part in parts]


def test_dislikes_do_not_count_as_popularity() -> None:
    batch = make_batch([*make_clicks("u", "a"), {"type": "dislike", "user_id": "u", "item_id": "b", "ts": 5000}])
    index = ItemIndex()
    baseline = PopularityBaseline(index, k=2)
    index.add(batch.lists.item)
    baseline.learn(batch)

    assert rank(baseline, batch, 0, "", "a")[0] == 0.0


def test_later_items_get_twice_the_weight_of_earlier_ones() -> None:
    batch = make_batch([*make_clicks("u", "abc"), *make_clicks("v", "b", ts=9000), *make_clicks("v", "z", ts=10_000)])
    index = ItemIndex()
    baseline = Cooccurrence(index, k=10)
    index.add(batch.lists.item)
    baseline.learn(batch)
    last = len(batch) - 1  # v has the history b: b→c 1 and b→z 1 forward, b→a 0.5 backward

    assert rank(baseline, batch, last, "b", "a")[0] == 2.0
    assert rank(baseline, batch, last, "b", "c")[0] == 0.5


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

    assert rank(baseline, batch, last, "ab", "x")[0] == 0.0
    assert rank(baseline, batch, last, "ab", "y")[0] == 1.0


def test_users_without_history_get_popular_items() -> None:
    batch = make_batch([*make_clicks("u", "aab"), *make_clicks("v", "b", ts=9000)])
    index = ItemIndex()
    baseline = Cooccurrence(index, k=10)
    before = batch.take(np.arange(3))
    index.add(before.lists.item)
    baseline.learn(before)

    assert rank(baseline, batch, 3, "", "a")[0] == 0.0
    assert rank(baseline, batch, 3, "", "b")[0] == 1.0


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
