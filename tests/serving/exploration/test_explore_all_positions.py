"""Exploration of the whole slate over HTTP: any candidate may be drawn."""

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from stream.config import PolicyName
from stream.ids import hash_ids
from stream.topics import EVENTS
from tests.support.serving_loop import LiveLoop, list_item_ids, make_event

POLICIES = get_args(PolicyName)
ITEMS = tuple("abcdefgh")
N_REQUESTS = 400


def make_loop(folder: Path, **overrides: Any) -> LiveLoop:
    explore_all: dict[str, Any] = {"exploration_rate": 1.0, "exploration_scope": "slate", "exploration_budget": 1000.0}
    return LiveLoop(folder, **(explore_all | overrides))


def train(loop: LiveLoop, clicks: int = 3) -> None:
    """Give all items their share of impressions, so that none is fresh."""
    loop.put_items(*ITEMS, created_ts=1)
    for number in range(clicks):
        response = loop.recommend(f"u{number}", k=len(ITEMS))
        clicked, impression_id = list_item_ids(response)[0], response["impression_id"]
        loop.send_events(make_event(user_id=f"u{number}", item_id=clicked, impression_id=impression_id))
    loop.run_until_idle()


@pytest.mark.parametrize("policy", POLICIES)
def test_first_position_frequencies_match_the_propensities(tmp_path: Path, policy: str) -> None:
    counts: Counter[str] = Counter()
    propensities: dict[str, float] = {}
    with make_loop(tmp_path, cold_start_impressions=1, policy=policy) as loop:
        train(loop)
        for _ in range(N_REQUESTS):
            first = loop.recommend("someone", k=3, log=False)["items"][0]
            counts[first["item_id"]] += 1
            propensities[first["item_id"]] = first["propensity"]

    assert len(counts) > 1
    for item, propensity in propensities.items():
        std = (propensity * (1 - propensity) / N_REQUESTS) ** 0.5
        assert abs(counts[item] / N_REQUESTS - propensity) < 4.5 * std + 1e-9


def test_logged_propensities_match_the_response(tmp_path: Path) -> None:
    with make_loop(tmp_path) as loop:
        train(loop)
        response = loop.recommend("someone", k=5)
        impression = msgspec.json.decode(loop.read_values(EVENTS)[-1])

    assert impression["propensities"] == [item["propensity"] for item in response["items"]]
    assert any(item["propensity"] < 1 for item in response["items"])
    assert {item["source"] for item in response["items"] if item.get("explored")} <= {"thompson"}


def read_logged_propensities(loop: LiveLoop, n_requests: int) -> dict[str, float]:
    """Logged propensities of first positions, by item: at rate 1 the draw probabilities."""
    for _ in range(n_requests):
        loop.recommend("someone", k=3)
    impressions = [msgspec.json.decode(value) for value in loop.read_values(EVENTS)][-n_requests:]
    return {impression["items"][0]: impression["propensities"][0] for impression in impressions}


@pytest.mark.parametrize("policy", POLICIES)
def test_min_probability_bounds_the_logged_propensities(tmp_path: Path, policy: str) -> None:
    with make_loop(tmp_path, policy=policy, exploration_min_probability=0.12) as loop:
        train(loop)
        propensities = read_logged_propensities(loop, 100)

    assert len(propensities) == len(ITEMS)
    assert min(propensities.values()) >= 0.12
    assert sum(propensities.values()) == pytest.approx(1)


def test_max_probability_bounds_the_logged_propensities(tmp_path: Path) -> None:
    with make_loop(tmp_path, policy="epsilon", exploration_max_probability=0.6) as loop:
        train(loop, clicks=1)  # so that one item is the best by far
        propensities = read_logged_propensities(loop, 100)

    assert len(propensities) > 1
    assert max(propensities.values()) == pytest.approx(0.6)


def test_explored_item_propensity_is_at_least_rate_times_floor(tmp_path: Path) -> None:
    equal = {"exploration_min_probability": 0.5}  # above 1 / n, which makes all probabilities equal
    with make_loop(tmp_path, exploration_rate=0.2, exploration_scope="fresh", **equal) as loop:
        loop.put_items(*ITEMS, created_ts=1)
        items = [loop.recommend(f"u{number}", k=1)["items"][0] for number in range(60)]

    explored_propensities = [item["propensity"] for item in items if item["explored"]]
    assert explored_propensities == pytest.approx([0.2 / len(ITEMS)] * len(explored_propensities))
    assert explored_propensities
    assert {item["propensity"] for item in items if not item["explored"]} == {1 - 0.2 + 0.2 / len(ITEMS)}


@pytest.mark.parametrize("policy", POLICIES)
def test_explain_returns_the_exploration_details(tmp_path: Path, policy: str) -> None:
    with make_loop(tmp_path, policy=policy) as loop:
        train(loop)
        items = loop.recommend("someone", k=len(ITEMS), explain=True, log=False)["items"]
        plain = loop.recommend("someone", k=len(ITEMS), log=False)["items"]
        unexplored = loop.recommend("someone", k=len(ITEMS), explain=True, explore=False)["items"]

    assert sum(item["exploration"]["selection_probability"] for item in items) == pytest.approx(1, abs=1e-4)
    assert items[0]["exploration"]["selection_probability"] == pytest.approx(items[0]["propensity"], abs=1e-6)
    assert all(0 <= item["exploration"]["mean"] <= 1 and item["exploration"]["std"] > 0 for item in items)
    if policy not in ("linucb", "linear-thompson"):
        assert [item["exploration"]["ranker_probability"] for item in items] == [item["probability"] for item in items]
    assert not any("exploration" in item for item in plain + unexplored)


@pytest.mark.parametrize("policy", ["linucb", "linear-thompson"])
def test_explain_shows_how_a_linear_policy_corrects_the_ranker(tmp_path: Path, policy: str) -> None:
    with make_loop(tmp_path, exploration_scope="fresh", exploration_rate=0.5, policy=policy) as loop:
        loop.put_items(*ITEMS[:4], categories=["lamps"], created_ts=1)
        loop.put_items(*ITEMS[4:], categories=["chairs"], created_ts=1)
        bandit, items = loop.service.replica.model.bandit, loop.service.replica.model.items
        rows = items.lookup(hash_ids(ITEMS))
        n, x = 2_000, np.zeros((2_000, len(loop.service.replica.model.feature_names)), np.float32)
        arm_rows = rows[np.arange(n) % len(ITEMS)]
        labels = np.isin(arm_rows, rows[:4]) & (np.arange(n) % 3 == 0)  # a third of the lamps
        bandit.learn(arm_rows, x, np.full(n, 0.1), labels, np.full(n, loop.clock.now_ms()))
        items_by_id = {item["item_id"]: item for item in loop.recommend(k=len(ITEMS), explain=True, log=False)["items"]}

    lamps, chairs = [items_by_id[item] for item in ITEMS[:4]], [items_by_id[item] for item in ITEMS[4:]]
    lamp_probabilities = [lamp["exploration"]["selection_probability"] for lamp in lamps]
    chair_probabilities = [chair["exploration"]["selection_probability"] for chair in chairs]
    assert all(lamp["exploration"]["ranker_probability"] > lamp["probability"] + 0.05 for lamp in lamps)
    assert all(chair["exploration"]["ranker_probability"] < chair["probability"] for chair in chairs)
    assert min(lamp_probabilities) > max(chair_probabilities)


def test_openapi_schema_contains_the_exploration_details(tmp_path: Path) -> None:
    with make_loop(tmp_path) as loop:
        schemas = loop.http.get("/docs/openapi.json").json()["components"]["schemas"]

    assert {"ranker_probability", "mean", "std", "selection_probability"} <= next(
        set(schema["properties"]) for name, schema in schemas.items() if name.endswith("ExplorationDetail")
    )


def test_slates_without_exploration_are_deterministic(tmp_path: Path) -> None:
    with make_loop(tmp_path) as loop:
        train(loop)
        plain = loop.recommend("someone", k=5, explore=False)
        requested = loop.recommend("someone", candidates=list(ITEMS))

    assert {item["propensity"] for item in plain["items"] + requested["items"]} == {1.0}


@pytest.mark.parametrize("policy", POLICIES)
def test_explored_items_name_their_policy_and_propensity(tmp_path: Path, policy: str) -> None:
    sources: set[str] = set()
    with make_loop(tmp_path, exploration_rate=0.5, exploration_scope="fresh", policy=policy) as loop:
        loop.put_items(*ITEMS, categories=["lamps"], created_ts=1)
        for number in range(20):
            response = loop.recommend(f"u{number}", k=4)
            explored_items = [item for item in response["items"] if item["explored"]]
            sources |= {item["source"] for item in explored_items}

            assert all(0 < item["propensity"] < 1 for item in explored_items)

    assert sources == {policy}


@pytest.mark.parametrize("policy", ["linucb", "linear-thompson"])
def test_closed_slates_train_the_linear_policies(tmp_path: Path, policy: str) -> None:
    with make_loop(tmp_path, policy=policy) as loop:
        loop.put_items(*ITEMS, categories=["lamps"], created_ts=1)
        arms = loop.service.replica.model.bandit.state()["keys"].size
        loop.recommend("u1", k=4)
        loop.run_until_idle()
        loop.clock.advance(2 * loop.settings.stream.attribution_window)
        loop.send_events(make_event(user_id="u2", item_id="a", ts=loop.clock.now_ms()))
        loop.run_until_idle()
        response = loop.recommend("u3", k=4)
        bandit = loop.service.replica.model.bandit.state()

    assert bandit["keys"].size == arms + 1
    assert bandit["posterior"].tobytes() == loop.learn_worker.model.bandit.state()["posterior"].tobytes()
    assert len(list_item_ids(response)) == 4
