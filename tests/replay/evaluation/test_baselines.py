"""What the baselines must answer, on logs of a few events."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from replay.evaluation.baselines import (
    AsListed,
    Cooccurrence,
    Counts,
    FadingClickRate,
    FadingClicks,
    FadingPopular,
    Popular,
    Seen,
)
from replay.evaluation.live_pipeline import Pipeline
from stream.clock import ManualClock
from stream.config import Events, Settings
from stream.ids import key_of, keys_of
from stream.records.batches import ExampleBatch, Kind

_NOBODY = np.zeros(0, np.uint64)


def batch_of(events: Sequence[dict[str, Any]]) -> ExampleBatch:
    """These events as the stream worker joins them, in one micro-batch."""
    lines = [msgspec.json.encode({"event_id": f"e{i}", **event}) for i, event in enumerate(events)]
    batch = Pipeline(Settings(events=Events(max_age=0)), 10, ManualClock(10**12)).stream(lines)
    assert batch is not None
    return batch


def clicks(user: str, items: str, ts: int = 0) -> list[dict[str, Any]]:
    return [{"type": "click", "user_id": user, "item_id": item, "ts": ts + 1000 * i} for i, item in enumerate(items)]


def shown(impression: str, items: str, ts: int = 0) -> dict[str, Any]:
    return {"type": "impression", "impression_id": impression, "user_id": "u", "items": list(items), "ts": ts}


def test_a_count_fades_by_half_in_a_half_life() -> None:
    seen = Seen()
    seen.admit(keys_of(["a", "b"]))
    counts = Counts(seen, half_life=10.0)
    counts.add(keys_of(["a", "a", "b"]), np.array([0, 10_000, 10_000]))

    assert counts.at(20_000).tolist() == pytest.approx([0.75, 0.5])


def test_counts_stay_finite_over_many_half_lives() -> None:
    seen = Seen()
    seen.admit(keys_of(["a", "b"]))
    counts = Counts(seen, half_life=1.0)
    for ts in range(0, 10_000_000, 100_000):
        counts.add(keys_of(["a"]), np.array([ts]))

    assert counts.at(9_900_000).tolist() == pytest.approx([1.0, 0.0])


def test_popular_ranks_by_count_without_what_is_hidden() -> None:
    batch = batch_of(clicks("u", "aaabbc"))
    seen = Seen()
    popular = Popular(seen, k=2)
    seen.admit(batch.lists.item)
    popular.learn(batch)

    everything = popular.pick(batch, 0, _NOBODY, key_of("c"))
    without_a = popular.pick(batch, 0, keys_of(["a"]), key_of("c"))

    assert (everything.place, everything.top.tolist()) == (2.0, keys_of(["a", "b"]).tolist())
    assert (without_a.place, without_a.top.tolist()) == (1.0, keys_of(["b", "c"]).tolist())


def test_what_is_unseen_or_hidden_has_no_place() -> None:
    batch = batch_of(clicks("u", "ab"))
    seen = Seen()
    popular = Popular(seen, k=2)
    seen.admit(batch.lists.item)
    popular.learn(batch)

    assert popular.pick(batch, 0, _NOBODY, key_of("z")).place == np.inf
    assert popular.pick(batch, 0, keys_of(["a"]), key_of("a")).place == np.inf


def test_fading_popular_takes_the_half_life_that_hits() -> None:
    old, new = clicks("u", "aaaaaa"), clicks("v", "b", ts=86_400_000)
    batch = batch_of([*old, *new])
    seen = Seen()
    fading = FadingPopular(seen, k=1)
    seen.admit(batch.lists.item)
    fading.learn(batch)  # by the week a is ahead, by the hour b

    assert fading.pick(batch, 0, _NOBODY, key_of("a")).top.tolist() == keys_of(["b"]).tolist()
    assert fading.pick(batch, 0, _NOBODY, key_of("a")).top.tolist() == keys_of(["a"]).tolist()


def test_dislikes_do_not_make_popular() -> None:
    batch = batch_of([*clicks("u", "a"), {"type": "dislike", "user_id": "u", "item_id": "b", "ts": 5000}])
    seen = Seen()
    popular = Popular(seen, k=2)
    seen.admit(batch.lists.item)
    popular.learn(batch)

    assert popular.pick(batch, 0, _NOBODY, key_of("a")).place == 0.0


def test_what_follows_weighs_twice_what_goes_before() -> None:
    batch = batch_of([*clicks("u", "abc"), *clicks("v", "b", ts=9000), *clicks("v", "z", ts=10_000)])
    seen = Seen()
    together = Cooccurrence(seen, k=10)
    seen.admit(batch.lists.item)
    together.learn(batch)
    last = len(batch) - 1  # v asks with the history b: b→c 1 and b→z 1 forward, b→a 0.5 back

    assert together.pick(batch, last, keys_of(["b"]), key_of("a")).place == 2.0
    assert together.pick(batch, last, keys_of(["b"]), key_of("c")).place == 0.5


def test_cooccurrence_sums_over_the_last_ten() -> None:
    batch = batch_of([*clicks("u", "axbx", ts=0), *clicks("v", "ay", ts=9000), *clicks("w", "abq", ts=20_000)])
    seen = Seen()
    together = Cooccurrence(seen, k=10)
    before = batch.take(np.arange(6))
    seen.admit(before.lists.item)
    together.learn(before)
    last = len(batch) - 1  # w asks with a, b: x is 2 + 1.5 behind a and b, y is 1

    assert together.pick(batch, last, keys_of(["a", "b"]), key_of("x")).place == 0.0
    assert together.pick(batch, last, keys_of(["a", "b"]), key_of("y")).place == 1.0


def test_who_has_no_history_gets_what_is_popular() -> None:
    batch = batch_of([*clicks("u", "aab"), *clicks("v", "b", ts=9000)])
    seen = Seen()
    together = Cooccurrence(seen, k=10)
    before = batch.take(np.arange(3))
    seen.admit(before.lists.item)
    together.learn(before)

    assert together.pick(batch, 3, _NOBODY, key_of("a")).place == 0.0
    assert together.pick(batch, 3, _NOBODY, key_of("b")).place == 1.0


def test_as_listed_prefers_the_first() -> None:
    batch = batch_of([shown("i", "abc")])
    scores = AsListed().order(batch, np.array([0])).scores

    assert scores.tolist() == sorted(scores, reverse=True)


def test_click_rate_counts_clicks_per_time_shown() -> None:
    taken = {"type": "click", "user_id": "u", "item_id": "a", "impression_id": "i", "ts": 0}
    batch = batch_of([shown("i", "ab"), taken, shown("j", "cb")])
    seen = Seen()
    clicked, rate = FadingClicks(seen, np.inf), FadingClickRate(seen, np.inf)
    seen.admit(batch.lists.item)
    for baseline in (clicked, rate):
        baseline.learn(batch)
    rows = np.flatnonzero(batch.kind == Kind.shown)
    general = 2 / 24

    assert clicked.order(batch, rows).scores.tolist() == [1, 0, 0, 0]
    assert rate.order(batch, rows).scores.tolist() == pytest.approx(
        [(1 + 20 * general) / 21, 20 * general / 22, 20 * general / 21, 20 * general / 22]
    )
