"""What the baselines must answer, on logs of a few events."""

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
from stream.clock import ManualClock
from stream.config import EventsSettings, Settings
from stream.ids import hash_id, hash_ids
from stream.records.batches import ExampleBatch, Kind

_NOBODY = np.zeros(0, np.uint64)


def batch_of(events: Sequence[dict[str, Any]]) -> ExampleBatch:
    """These events as the stream worker joins them, in one micro-batch."""
    lines = [msgspec.json.encode({"event_id": f"e{i}", **event}) for i, event in enumerate(events)]
    batch = Pipeline(Settings(events=EventsSettings(max_age=0)), 10, ManualClock(10**12)).stream(lines)
    assert batch is not None
    return batch


def clicks(user: str, items: str, ts: int = 0) -> list[dict[str, Any]]:
    return [{"type": "click", "user_id": user, "item_id": item, "ts": ts + 1000 * i} for i, item in enumerate(items)]


def shown(impression: str, items: str, ts: int = 0) -> dict[str, Any]:
    return {"type": "impression", "impression_id": impression, "user_id": "u", "items": list(items), "ts": ts}


def test_a_count_fades_by_half_in_a_half_life() -> None:
    seen = ItemIndex()
    seen.add(hash_ids(["a", "b"]))
    counts = DecayedCounts(seen, half_life=10.0)
    counts.add(hash_ids(["a", "a", "b"]), np.array([0, 10_000, 10_000]))

    assert counts.decayed_at(20_000).tolist() == pytest.approx([0.75, 0.5])


def test_counts_stay_finite_over_many_half_lives() -> None:
    seen = ItemIndex()
    seen.add(hash_ids(["a", "b"]))
    counts = DecayedCounts(seen, half_life=1.0)
    for ts in range(0, 10_000_000, 100_000):
        counts.add(hash_ids(["a"]), np.array([ts]))

    assert counts.decayed_at(9_900_000).tolist() == pytest.approx([1.0, 0.0])


def test_popular_ranks_by_count_without_what_is_hidden() -> None:
    batch = batch_of(clicks("u", "aaabbc"))
    seen = ItemIndex()
    popular = PopularityBaseline(seen, k=2)
    seen.add(batch.lists.item)
    popular.learn(batch)

    everything = popular.rank_target(batch, 0, _NOBODY, hash_id("c"))
    without_a = popular.rank_target(batch, 0, hash_ids(["a"]), hash_id("c"))

    assert (everything.rank, everything.top.tolist()) == (2.0, hash_ids(["a", "b"]).tolist())
    assert (without_a.rank, without_a.top.tolist()) == (1.0, hash_ids(["b", "c"]).tolist())


def test_what_is_unseen_or_hidden_has_no_place() -> None:
    batch = batch_of(clicks("u", "ab"))
    seen = ItemIndex()
    popular = PopularityBaseline(seen, k=2)
    seen.add(batch.lists.item)
    popular.learn(batch)

    assert popular.rank_target(batch, 0, _NOBODY, hash_id("z")).rank == np.inf
    assert popular.rank_target(batch, 0, hash_ids(["a"]), hash_id("a")).rank == np.inf


def test_fading_popular_takes_the_half_life_that_hits() -> None:
    old, new = clicks("u", "aaaaaa"), clicks("v", "b", ts=86_400_000)
    batch = batch_of([*old, *new])
    seen = ItemIndex()
    fading = DecayedPopularity(seen, k=1)
    seen.add(batch.lists.item)
    fading.learn(batch)  # by the week a is ahead, by the hour b

    assert fading.rank_target(batch, 0, _NOBODY, hash_id("a")).top.tolist() == hash_ids(["b"]).tolist()
    assert fading.rank_target(batch, 0, _NOBODY, hash_id("a")).top.tolist() == hash_ids(["a"]).tolist()


def test_dislikes_do_not_make_popular() -> None:
    batch = batch_of([*clicks("u", "a"), {"type": "dislike", "user_id": "u", "item_id": "b", "ts": 5000}])
    seen = ItemIndex()
    popular = PopularityBaseline(seen, k=2)
    seen.add(batch.lists.item)
    popular.learn(batch)

    assert popular.rank_target(batch, 0, _NOBODY, hash_id("a")).rank == 0.0


def test_what_follows_weighs_twice_what_goes_before() -> None:
    batch = batch_of([*clicks("u", "abc"), *clicks("v", "b", ts=9000), *clicks("v", "z", ts=10_000)])
    seen = ItemIndex()
    together = Cooccurrence(seen, k=10)
    seen.add(batch.lists.item)
    together.learn(batch)
    last = len(batch) - 1  # v asks with the history b: b→c 1 and b→z 1 forward, b→a 0.5 back

    assert together.rank_target(batch, last, hash_ids(["b"]), hash_id("a")).rank == 2.0
    assert together.rank_target(batch, last, hash_ids(["b"]), hash_id("c")).rank == 0.5


def test_cooccurrence_sums_over_the_last_ten() -> None:
    batch = batch_of([*clicks("u", "axbx", ts=0), *clicks("v", "ay", ts=9000), *clicks("w", "abq", ts=20_000)])
    seen = ItemIndex()
    together = Cooccurrence(seen, k=10)
    before = batch.take(np.arange(6))
    seen.add(before.lists.item)
    together.learn(before)
    last = len(batch) - 1  # w asks with a, b: x is 2 + 1.5 behind a and b, y is 1

    assert together.rank_target(batch, last, hash_ids(["a", "b"]), hash_id("x")).rank == 0.0
    assert together.rank_target(batch, last, hash_ids(["a", "b"]), hash_id("y")).rank == 1.0


def test_who_has_no_history_gets_what_is_popular() -> None:
    batch = batch_of([*clicks("u", "aab"), *clicks("v", "b", ts=9000)])
    seen = ItemIndex()
    together = Cooccurrence(seen, k=10)
    before = batch.take(np.arange(3))
    seen.add(before.lists.item)
    together.learn(before)

    assert together.rank_target(batch, 3, _NOBODY, hash_id("a")).rank == 0.0
    assert together.rank_target(batch, 3, _NOBODY, hash_id("b")).rank == 1.0


def test_as_listed_prefers_the_first() -> None:
    batch = batch_of([shown("i", "abc")])
    scores = OriginalOrder().score_lists(batch, np.array([0])).scores

    assert scores.tolist() == sorted(scores, reverse=True)


def test_click_rate_counts_clicks_per_time_shown() -> None:
    taken = {"type": "click", "user_id": "u", "item_id": "a", "impression_id": "i", "ts": 0}
    batch = batch_of([shown("i", "ab"), taken, shown("j", "cb")])
    seen = ItemIndex()
    clicked, rate = DecayedClicks(seen, np.inf), DecayedCTR(seen, np.inf)
    seen.add(batch.lists.item)
    for baseline in (clicked, rate):
        baseline.learn(batch)
    rows = np.flatnonzero(batch.kind == Kind.shown)
    general = 2 / 24

    assert clicked.score_lists(batch, rows).scores.tolist() == [1, 0, 0, 0]
    assert rate.score_lists(batch, rows).scores.tolist() == pytest.approx(
        [(1 + 20 * general) / 21, 20 * general / 22, 20 * general / 21, 20 * general / 22]
    )
