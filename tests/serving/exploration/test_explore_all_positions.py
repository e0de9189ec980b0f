"""Exploring over the whole slate, through HTTP: any candidate may be drawn, and its probability is told and logged."""

from collections import Counter
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

from stream.config import PolicyName
from stream.ids import keys_of
from stream.topics import EVENTS
from tests.support.serving_loop import Loop, event, slate

POLICIES = get_args(PolicyName)
ITEMS = tuple("abcdefgh")
ASKED = 400


def begun(folder: Path, **serve: object) -> Loop:
    return Loop(folder, **({"explore": 1.0, "explore_over": "slate", "explore_loss": 1000.0} | serve))


def teach(loop: Loop, clicks: int = 3) -> None:
    """Items that all have had their share of impressions, so that none is fresh."""
    loop.put(*ITEMS, created_ts=1)
    for number in range(clicks):
        answer = loop.ask(f"u{number}", k=len(ITEMS))
        loop.send(event(user_id=f"u{number}", item_id=slate(answer)[0], impression_id=answer["impression_id"]))
    loop.settle()


@pytest.mark.parametrize("policy", POLICIES)
def test_items_come_to_the_first_place_as_often_as_is_told(tmp_path: Path, policy: str) -> None:
    came: Counter[str] = Counter()
    told: dict[str, float] = {}
    with begun(tmp_path, fresh_impressions=1, policy=policy) as loop:
        teach(loop)
        for _ in range(ASKED):
            first = loop.ask("someone", k=3, log=False)["items"][0]
            came[first["item_id"]] += 1
            told[first["item_id"]] = first["propensity"]

    assert len(came) > 1
    for item, chance in told.items():
        assert abs(came[item] / ASKED - chance) < 4.5 * (chance * (1 - chance) / ASKED) ** 0.5 + 1e-9


def test_what_is_logged_is_what_was_told_and_no_alarm_is_raised(tmp_path: Path) -> None:
    with begun(tmp_path) as loop:
        teach(loop)
        answer = loop.ask("someone", k=5)
        logged = msgspec.json.decode(loop.values(EVENTS)[-1])

    assert logged["propensities"] == [item["propensity"] for item in answer["items"]]
    assert any(item["propensity"] < 1 for item in answer["items"])
    assert {item["source"] for item in answer["items"] if item.get("explored")} <= {"thompson"}


def logged_chances(loop: Loop, asked: int) -> dict[str, float]:
    """The logged propensities of first places, by item; with `serve.explore` at 1 they are chances of the draw."""
    for _ in range(asked):
        loop.ask("someone", k=3)
    impressions = [msgspec.json.decode(value) for value in loop.values(EVENTS)][-asked:]
    return {told["items"][0]: told["propensities"][0] for told in impressions}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_floor_reaches_the_propensities_that_are_logged(tmp_path: Path, policy: str) -> None:
    with begun(tmp_path, policy=policy, explore_floor=0.12) as loop:
        teach(loop)
        chances = logged_chances(loop, 100)

    assert len(chances) == len(ITEMS)
    assert min(chances.values()) >= 0.12
    assert sum(chances.values()) == pytest.approx(1)


def test_the_cap_reaches_the_propensities_that_are_logged(tmp_path: Path) -> None:
    with begun(tmp_path, policy="epsilon", explore_cap=0.6) as loop:
        teach(loop, clicks=1)  # so that one is the best by far
        chances = logged_chances(loop, 100)

    assert len(chances) > 1
    assert max(chances.values()) == pytest.approx(0.6)


def test_what_only_a_draw_puts_in_its_place_has_the_share_times_the_floor_at_least(tmp_path: Path) -> None:
    with begun(tmp_path, explore=0.2, explore_over="fresh", explore_floor=0.5) as loop:  # so all chances are equal
        loop.put(*ITEMS, created_ts=1)
        slates = [loop.ask(f"u{number}", k=1)["items"][0] for number in range(60)]

    drawn = [item["propensity"] for item in slates if item["explored"]]
    assert drawn == pytest.approx([0.2 / len(ITEMS)] * len(drawn))
    assert drawn
    assert {item["propensity"] for item in slates if not item["explored"]} == {1 - 0.2 + 0.2 / len(ITEMS)}


@pytest.mark.parametrize("policy", POLICIES)
def test_explaining_tells_what_an_item_was_weighed_by(tmp_path: Path, policy: str) -> None:
    with begun(tmp_path, policy=policy) as loop:
        teach(loop)
        items = loop.ask("someone", k=len(ITEMS), explain=True, log=False)["items"]
        plain = loop.ask("someone", k=len(ITEMS), log=False)["items"]
        unexplored = loop.ask("someone", k=len(ITEMS), explain=True, explore=False)["items"]

    assert sum(item["weighed"]["chance"] for item in items) == pytest.approx(1, abs=1e-4)
    assert items[0]["weighed"]["chance"] == pytest.approx(items[0]["propensity"], abs=1e-6)
    assert all(0 <= item["weighed"]["mean"] <= 1 and item["weighed"]["spread"] > 0 for item in items)
    if policy not in ("linucb", "linear-thompson"):
        assert [item["weighed"]["told"] for item in items] == [item["probability"] for item in items]
    assert not any("weighed" in item for item in plain + unexplored)


@pytest.mark.parametrize("policy", ["linucb", "linear-thompson"])
def test_explaining_tells_how_far_a_linear_policy_puts_the_ranker_right(tmp_path: Path, policy: str) -> None:
    with begun(tmp_path, explore_over="fresh", explore=0.5, policy=policy) as loop:
        loop.put(*ITEMS[:4], categories=["lamps"], created_ts=1)
        loop.put(*ITEMS[4:], categories=["chairs"], created_ts=1)
        bandit, items = loop.service.replica.stack.bandit, loop.service.replica.stack.items
        rows = items.find(keys_of(ITEMS))
        n, x = 2_000, np.zeros((2_000, len(loop.service.replica.stack.feature_names)), np.float32)
        tried = rows[np.arange(n) % len(ITEMS)]
        clicked = np.isin(tried, rows[:4]) & (np.arange(n) % 3 == 0)  # of lamps a third
        bandit.learn(tried, x, np.full(n, 0.1), clicked, np.full(n, loop.clock.now_ms()))
        told = {item["item_id"]: item for item in loop.ask(k=len(ITEMS), explain=True, log=False)["items"]}

    assert all(told[lamp]["weighed"]["told"] > told[lamp]["probability"] + 0.05 for lamp in ITEMS[:4])
    assert all(told[chair]["weighed"]["told"] < told[chair]["probability"] for chair in ITEMS[4:])
    assert min(told[lamp]["weighed"]["chance"] for lamp in ITEMS[:4]) > max(
        told[chair]["weighed"]["chance"] for chair in ITEMS[4:]
    )


def test_what_was_weighed_is_in_the_description_of_the_interface(tmp_path: Path) -> None:
    with begun(tmp_path) as loop:
        schemas = loop.http.get("/docs/openapi.json").json()["components"]["schemas"]

    assert {"told", "mean", "spread", "chance"} <= next(
        set(schema["properties"]) for name, schema in schemas.items() if name.endswith("Weighed")
    )


def test_nothing_is_drawn_where_that_was_not_asked_for(tmp_path: Path) -> None:
    with begun(tmp_path) as loop:
        teach(loop)
        plain = loop.ask("someone", k=5, explore=False)
        given = loop.ask("someone", candidates=list(ITEMS))

    assert {item["propensity"] for item in plain["items"] + given["items"]} == {1.0}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_explored_names_the_policy_and_is_told_with_its_chance(tmp_path: Path, policy: str) -> None:
    sources: set[str] = set()
    with begun(tmp_path, explore=0.5, explore_over="fresh", policy=policy) as loop:
        loop.put(*ITEMS, categories=["lamps"], created_ts=1)
        for number in range(20):
            answer = loop.ask(f"u{number}", k=4)
            drawn = [item for item in answer["items"] if item["explored"]]
            sources |= {item["source"] for item in drawn}

            assert all(0 < item["propensity"] < 1 for item in drawn)

    assert sources == {policy}


@pytest.mark.parametrize("policy", ["linucb", "linear-thompson"])
def test_what_became_of_slates_reaches_the_linear_policies(tmp_path: Path, policy: str) -> None:
    with begun(tmp_path, policy=policy) as loop:
        loop.put(*ITEMS, categories=["lamps"], created_ts=1)
        arms = loop.service.replica.stack.bandit.state()["keys"].size
        loop.ask("u1", k=4)
        loop.settle()
        loop.clock.advance(2 * loop.settings.stream.window)
        loop.send(event(user_id="u2", item_id="a", ts=loop.clock.now_ms()))
        loop.settle()
        answer = loop.ask("u3", k=4)
        bandit = loop.service.replica.stack.bandit.state()

    assert bandit["keys"].size == arms + 1
    assert bandit["posterior"].tobytes() == loop.learn.stack.bandit.state()["posterior"].tobytes()
    assert len(slate(answer)) == 4
