"""Progressive evaluation: predict before training, on logs with known answers."""

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


def evaluate(events: Iterable[dict[str, Any]], batch: int, settings: EvaluationSettings) -> ProgressiveEvaluator:
    live_settings = Settings(events=EventsSettings(max_age=0), stream=StreamSettings(batch=batch))
    evaluator = ProgressiveEvaluator(Pipeline(live_settings, settings.k, ManualClock(_START + 10**11)), settings)
    lines = [msgspec.json.encode({"event_id": f"e{i}", **event}) for i, event in enumerate(events)]
    for first in range(0, len(lines), batch):
        evaluator.step(lines[first : first + batch])
    evaluator.finish()
    return evaluator


def make_click(user: str, item: str, second: int, **more: Any) -> dict[str, Any]:
    return {"type": "click", "user_id": user, "item_id": item, "ts": _START + 1000 * second, **more}


def make_impression(impression: str, user: str, items: str, second: int) -> dict[str, Any]:
    ts = _START + 1000 * second
    return {"type": "impression", "impression_id": impression, "user_id": user, "items": list(items), "ts": ts}


def make_walks(walks: int, steps: int, items: int) -> list[dict[str, Any]]:
    """Users who click the items in circular order: the last click determines the next one."""
    rng = random.Random(3)
    events = []
    for walk in range(walks):
        first = rng.randrange(items)
        events += [make_click(f"u{walk}", f"i{(first + j) % items}", 60 * walk + 5 * j) for j in range(steps)]
    return events


def test_pipeline_learns_the_next_item() -> None:
    events = make_walks(walks=200, steps=8, items=100)
    evaluator = evaluate(events, 16, EvaluationSettings(k=5, evaluate_from=800))
    values = evaluator.values()

    assert values["headrace"]["returning_recall"] == pytest.approx(1.0, abs=0.05)
    assert values["cooccurrence"]["returning_recall"] == pytest.approx(1.0, abs=0.05)
    assert values["popularity"]["recall"] == pytest.approx(5 / 100, abs=0.08)
    assert set(values) == {"headrace", "popularity", "decayed_popularity", "cooccurrence"}


def test_same_log_gives_the_same_values() -> None:
    events = make_walks(walks=20, steps=6, items=20)
    first, second = (evaluate(events, 8, EvaluationSettings(k=3)).values() for _ in range(2))

    assert _without_times(first) == _without_times(second)


def _without_times(values: Values) -> Values:
    return {model: each | {"events_per_second": None} for model, each in values.items()}


def test_micro_batch_is_evaluated_before_training() -> None:
    events = [make_click("u", "a", 0), make_click("v", "a", 1), make_click("w", "a", 2)]

    assert evaluate(events, 3, EvaluationSettings(k=1)).values()["popularity"]["recall"] == 0
    assert evaluate(events, 1, EvaluationSettings(k=1)).values()["popularity"]["recall"] == pytest.approx(2 / 3)


def test_repeated_item_is_a_hit_only_with_repeats() -> None:
    events = [make_click("u", "a", 0), make_click("u", "a", 1), make_click("u", "a", 2)]
    without, with_repeats = (evaluate(events, 1, EvaluationSettings(k=1, repeats=repeats)) for repeats in (False, True))

    assert without.values()["popularity"]["recall"] == 0
    assert with_repeats.values()["popularity"]["recall"] == pytest.approx(2 / 3)
    assert with_repeats.values()["headrace"]["recall"] == pytest.approx(2 / 3)
    assert (without.counts.unseen_targets, without.counts.repeat_targets) == (1, 2)


def test_events_before_evaluate_from_only_train() -> None:
    evaluator = evaluate(
        [make_click("u", "a", 0), make_click("v", "a", 1)], 1, EvaluationSettings(k=1, evaluate_from=1)
    )

    assert evaluator.counts.actions == 1
    assert evaluator.values()["popularity"]["recall"] == 1.0


def test_every_second_action_can_be_evaluated() -> None:
    evaluator = evaluate([make_click(f"u{i}", "a", i) for i in range(10)], 1, EvaluationSettings(k=1, evaluate_every=2))

    assert evaluator.counts.actions == 5


def test_dislikes_are_not_targets() -> None:
    evaluator = evaluate(
        [make_click("u", "a", 0), {**make_click("v", "a", 1), "type": "dislike"}], 1, EvaluationSettings(k=1)
    )

    assert evaluator.counts.actions == 1


def test_list_is_evaluated_with_its_scores_when_shown() -> None:
    events = [
        make_click("x", "b", 0),
        make_impression("i1", "u", "ab", 10),
        *(make_click("x", "a", 20) for _ in range(5)),  # before the click on the list, but after it was shown
        make_click("u", "b", 30, impression_id="i1"),
    ]
    values = evaluate(events, 1, EvaluationSettings(k=1)).values()

    assert values["decayed_clicks"]["impression_auc"] == 1.0
    assert values["original_order"]["impression_auc"] == 0.0
    assert values["original_order"]["impression_mrr"] == 0.5


def test_lists_without_exactly_one_click_are_skipped() -> None:
    events = [
        make_impression("i1", "u", "abc", 0),
        make_impression("i2", "u", "abc", 1),
        make_click("u", "a", 2, impression_id="i2"),
        make_click("u", "b", 3, impression_id="i2"),
        make_impression("i3", "u", "abc", 4),
        make_click("u", "b", 5, impression_id="i3"),
        make_click("u", "b", 6, impression_id="i3"),
        make_impression("i4", "u", "a", 7),
        make_click("u", "a", 8, impression_id="i4"),
        make_click("v", "a", 9, impression_id="i1"),
    ]
    values = evaluate(events, 4, EvaluationSettings(k=1)).values()

    assert values["original_order"]["evaluated_impressions"] == 1
    assert values["original_order"]["impression_auc"] == 0.5


def test_click_metrics_use_closed_impressions() -> None:
    events = [
        make_impression("i1", "u", "ab", 0),
        make_click("u", "a", 5, impression_id="i1"),
        make_impression("i2", "u", "ab", 10),
        make_click("u", "z", 10_000),
    ]
    values = evaluate(events, 1, EvaluationSettings(k=1)).values()

    # The click is above both second positions and ties with the other first position.
    assert values["original_order"]["auc"] == pytest.approx(2.5 / 3)
    assert values["original_order"]["log_loss"] is None
    assert values["headrace"]["log_loss"] is not None
    assert values["popularity"]["auc"] is None


def test_ranker_learns_the_clicked_item_of_lists() -> None:
    rng = np.random.default_rng(5)
    events = []
    for i in range(600):
        items = "".join(rng.permutation(list("abcdefgh")))
        events.append(make_impression(f"i{i}", f"u{i % 50}", items, 20 * i))
        events.append(make_click(f"u{i % 50}", "a", 20 * i + 5, impression_id=f"i{i}"))
    values = evaluate(events, 16, EvaluationSettings(k=3, evaluate_from=600)).values()
    auc = values["headrace"]["impression_auc"]

    assert auc is not None
    assert auc > 0.95
    assert values["original_order"]["impression_auc"] == pytest.approx(0.5, abs=0.1)
