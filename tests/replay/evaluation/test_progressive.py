"""Test, then learn: the order of things, and logs whose truth is known."""

import random
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest

from replay.evaluation.live_pipeline import Pipeline
from replay.evaluation.progressive import EvaluationSettings, ProgressiveEvaluator
from stream.clock import ManualClock
from stream.config import EventsSettings, Settings, StreamSettings

_START = 1_700_000_000_000
Values = dict[str, dict[str, float | int | None]]


def race_of(events: Iterable[dict[str, Any]], batch: int, judging: EvaluationSettings) -> ProgressiveEvaluator:
    settings = Settings(events=EventsSettings(max_age=0), stream=StreamSettings(batch=batch))
    race = ProgressiveEvaluator(Pipeline(settings, judging.k, ManualClock(_START + 10**11)), judging)
    lines = [msgspec.json.encode({"event_id": f"e{i}", **event}) for i, event in enumerate(events)]
    for first in range(0, len(lines), batch):
        race.step(lines[first : first + batch])
    race.finish()
    return race


def click(user: str, item: str, second: int, **more: Any) -> dict[str, Any]:
    return {"type": "click", "user_id": user, "item_id": item, "ts": _START + 1000 * second, **more}


def shown(impression: str, user: str, items: str, second: int) -> dict[str, Any]:
    ts = _START + 1000 * second
    return {"type": "impression", "impression_id": impression, "user_id": user, "items": list(items), "ts": ts}


def successors(walks: int, steps: int, items: int) -> list[dict[str, Any]]:
    """People who walk from item to the next, all round: the last click says all of the one to come."""
    rng = random.Random(3)
    events = []
    for walk in range(walks):
        first = rng.randrange(items)
        events += [click(f"u{walk}", f"i{(first + j) % items}", 60 * walk + 5 * j) for j in range(steps)]
    return events


def test_the_pipeline_learns_which_item_follows() -> None:
    events = successors(walks=200, steps=8, items=100)
    race = race_of(events, 16, EvaluationSettings(k=5, evaluate_from=800))
    values = race.values()

    assert values["headrace"]["returning_recall"] == pytest.approx(1.0, abs=0.05)
    assert values["cooccurrence"]["returning_recall"] == pytest.approx(1.0, abs=0.05)
    assert values["popular"]["recall"] == pytest.approx(5 / 100, abs=0.08)
    assert set(values) == {"headrace", "popular", "decayed_popularity", "cooccurrence"}


def test_the_same_log_gives_the_same_values() -> None:
    events = successors(walks=20, steps=6, items=20)
    first, second = (race_of(events, 8, EvaluationSettings(k=3)).values() for _ in range(2))

    assert _without_times(first) == _without_times(second)


def _without_times(values: Values) -> Values:
    return {model: each | {"events_per_second": None} for model, each in values.items()}


def test_a_micro_batch_is_judged_before_it_is_learnt() -> None:
    events = [click("u", "a", 0), click("v", "a", 1), click("w", "a", 2)]

    assert race_of(events, 3, EvaluationSettings(k=1)).values()["popular"]["recall"] == 0
    assert race_of(events, 1, EvaluationSettings(k=1)).values()["popular"]["recall"] == pytest.approx(2 / 3)


def test_what_a_person_has_met_is_hit_with_repeats_only() -> None:
    events = [click("u", "a", 0), click("u", "a", 1), click("u", "a", 2)]
    dropped, allowed = (race_of(events, 1, EvaluationSettings(k=1, repeats=repeats)) for repeats in (False, True))

    assert dropped.values()["popular"]["recall"] == 0
    assert allowed.values()["popular"]["recall"] == pytest.approx(2 / 3)
    assert allowed.values()["headrace"]["recall"] == pytest.approx(2 / 3)
    assert (dropped.counts.unseen_targets, dropped.counts.repeat_targets) == (1, 2)


def test_events_before_judge_from_only_teach() -> None:
    race = race_of([click("u", "a", 0), click("v", "a", 1)], 1, EvaluationSettings(k=1, evaluate_from=1))

    assert race.counts.actions == 1
    assert race.values()["popular"]["recall"] == 1.0


def test_every_second_action_can_be_judged() -> None:
    race = race_of([click(f"u{i}", "a", i) for i in range(10)], 1, EvaluationSettings(k=1, evaluate_every=2))

    assert race.counts.actions == 5


def test_dislikes_are_no_targets() -> None:
    race = race_of([click("u", "a", 0), {**click("v", "a", 1), "type": "dislike"}], 1, EvaluationSettings(k=1))

    assert race.counts.actions == 1


def test_a_list_is_judged_as_it_was_thought_of_when_shown() -> None:
    events = [
        click("x", "b", 0),
        shown("i1", "u", "ab", 10),
        *(click("x", "a", 20) for _ in range(5)),  # known before the click, but not before the list was shown
        click("u", "b", 30, impression_id="i1"),
    ]
    values = race_of(events, 1, EvaluationSettings(k=1)).values()

    assert values["decayed_clicks"]["impression_auc"] == 1.0
    assert values["original_order"]["impression_auc"] == 0.0
    assert values["original_order"]["impression_mrr"] == 0.5


def test_lists_with_none_or_several_taken_are_not_judged() -> None:
    events = [
        shown("i1", "u", "abc", 0),
        shown("i2", "u", "abc", 1),
        click("u", "a", 2, impression_id="i2"),
        click("u", "b", 3, impression_id="i2"),
        shown("i3", "u", "abc", 4),
        click("u", "b", 5, impression_id="i3"),
        click("u", "b", 6, impression_id="i3"),
        shown("i4", "u", "a", 7),
        click("u", "a", 8, impression_id="i4"),
        click("v", "a", 9, impression_id="i1"),
    ]
    values = race_of(events, 4, EvaluationSettings(k=1)).values()

    assert values["original_order"]["evaluated_impressions"] == 1
    assert values["original_order"]["impression_auc"] == 0.5


def test_outcomes_are_those_of_closed_windows() -> None:
    events = [
        shown("i1", "u", "ab", 0),
        click("u", "a", 5, impression_id="i1"),
        shown("i2", "u", "ab", 10),
        click("u", "z", 10_000),
    ]
    values = race_of(events, 1, EvaluationSettings(k=1)).values()

    assert values["original_order"]["auc"] == pytest.approx(
        2.5 / 3
    )  # before both second places, level with the other first
    assert values["original_order"]["log_loss"] is None
    assert values["headrace"]["log_loss"] is not None
    assert values["popular"]["auc"] is None


def test_the_ranker_learns_what_is_taken_of_a_list() -> None:
    rng = np.random.default_rng(5)
    events = []
    for i in range(600):
        items = "".join(rng.permutation(list("abcdefgh")))
        events.append(shown(f"i{i}", f"u{i % 50}", items, 20 * i))
        events.append(click(f"u{i % 50}", "a", 20 * i + 5, impression_id=f"i{i}"))
    values = race_of(events, 16, EvaluationSettings(k=3, evaluate_from=600)).values()
    auc = values["headrace"]["impression_auc"]

    assert auc is not None
    assert auc > 0.95
    assert values["original_order"]["impression_auc"] == pytest.approx(0.5, abs=0.1)
