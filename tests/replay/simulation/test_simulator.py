"""The simulated crowd: what it does agrees with what it says of itself."""

import json
from dataclasses import replace

import numpy as np
import pytest

from replay.simulation.simulator import CATEGORIES, Simulator, make_population, make_shop, position_bias
from stream.clock import ManualClock
from stream.records.catalog import parse_item
from stream.records.events import Event, Limits, parse, validate

NOW = 1_767_225_600_000
K = 10


def a_simulator(shoppers: int = 50, items: int = 200, seed: int = 1, searching: float = 0.0) -> Simulator:
    rng = np.random.default_rng(seed)
    clock = ManualClock(NOW)
    return Simulator(make_shop(items, NOW, rng), make_population(shoppers, rng), clock, rng, searching)


def slates_of(simulator: Simulator, shopper: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Slates by the three ways that `expected` speaks of, for a shopper who has met nothing."""
    chance = simulator.click_probability[shopper]
    return {
        "random": rng.choice(chance.size, K, replace=False).tolist(),
        "popular": np.argsort(-(simulator.activity @ simulator.click_probability))[:K].tolist(),
        "best": np.argsort(-chance)[:K].tolist(),
    }


@pytest.mark.parametrize("way", ["random", "popular", "best"])
def test_slates_earn_what_the_simulator_expects_of_them(way: str) -> None:
    rng = np.random.default_rng(3)
    clicks, expected = [], []
    for seed in range(8):
        fresh = a_simulator(seed=seed)
        for shopper in range(len(fresh.users)):
            expected.append(getattr(fresh.expected_ctr(shopper, K), way) * K)
            slate = [fresh.shop.item_ids[j] for j in slates_of(fresh, shopper, rng)[way]]
            clicks.append(fresh.simulate_feedback(shopper, "r", slate)[0])
    error = np.std(clicks) / np.sqrt(len(clicks))

    assert np.mean(clicks) == pytest.approx(np.mean(expected), abs=4 * error)


def test_no_slate_earns_more_than_the_best() -> None:
    simulator = a_simulator()
    rng = np.random.default_rng(0)
    chance = simulator.click_probability[3]
    earned = [chance[rng.choice(chance.size, K, replace=False)] @ position_bias(K) / K for _ in range(500)]

    assert max(earned) <= simulator.expected_ctr(3, K).best


def test_tastes_are_worth_knowing() -> None:
    simulator = a_simulator(shoppers=400, items=1000, seed=7)
    expected = [simulator.expected_ctr(shopper, K) for shopper in range(400)]
    random, popular, best = (np.mean([getattr(one, way) for one in expected]) for way in ("random", "popular", "best"))

    assert 1.5 * random < popular
    assert 3 * popular < best < 0.5


def test_what_was_met_is_expected_of_no_slate() -> None:
    simulator = a_simulator(items=K)
    before = simulator.expected_ctr(0, K)
    while simulator.expected_ctr(0, K).best > 0:
        simulator.simulate_feedback(0, "r", simulator.shop.item_ids)

    assert before.best > 0
    assert simulator.expected_ctr(0, K).random == simulator.expected_ctr(0, K).popular == 0


def test_fewer_items_than_places_make_a_shorter_slate() -> None:
    simulator = a_simulator(items=3)

    assert simulator.expected_ctr(0, K).random == pytest.approx(
        simulator.click_probability[0].mean() * position_bias(3).mean()
    )


def test_the_same_seed_is_the_same_crowd() -> None:
    runs = []
    for _ in range(2):
        simulator = a_simulator(searching=0.5)
        slate = simulator.shop.item_ids[:K]
        runs.append([simulator.simulate_feedback(simulator.next_shopper(), "r", slate) for _ in range(100)])

    assert runs[0] == runs[1]


def test_who_is_more_active_asks_more_often() -> None:
    simulator = a_simulator(shoppers=3)
    asked = np.bincount([simulator.next_shopper() for _ in range(5000)], minlength=3) / 5000

    np.testing.assert_allclose(asked, simulator.activity, atol=0.03)


def test_events_are_what_the_wire_takes() -> None:
    simulator = a_simulator(searching=1.0)
    names = simulator.shop.item_ids
    told = [
        event for _ in range(200) for event in simulator.simulate_feedback(simulator.next_shopper(), "r7", names)[1]
    ]
    events = [parse(json.dumps(event).encode()) for event in told]
    sound = [event for event in events if isinstance(event, Event)]

    assert len(sound) == len(told)
    assert validate(sound, [NOW] * len(sound), Limits(max_age=60, max_skew=1)) == {}
    assert len({event.event_id for event in sound}) == len(sound)
    assert {(event.type, event.impression_id) for event in sound} == {("click", "r7"), ("view", None)}


def test_items_of_other_shops_are_not_clicked() -> None:
    simulator = a_simulator()

    assert all(simulator.simulate_feedback(0, "r", ["stranger"]) == (0, []) for _ in range(200))


def test_shoppers_search_for_what_they_like() -> None:
    simulator = a_simulator(shoppers=1, items=500, searching=1.0)
    chance = simulator.click_probability[0]
    found = [event["item_id"] for _ in range(100) for event in simulator.simulate_feedback(0, "r", [])[1]]

    assert len(set(found)) == 100
    assert chance[[simulator.shop.item_ids.index(item) for item in found]].mean() > 1.5 * chance.mean()


def test_the_catalogue_is_what_the_wire_takes_and_tells_no_secret() -> None:
    records = a_simulator().shop.records()
    items = [parse_item(json.dumps(record).encode()) for record in records]

    assert all(item.title and item.categories[0] in CATEGORIES and item.created_ts for item in items)
    assert {name for record in records for name in record} == {"item_id", "title", "categories", "price", "created_ts"}


def test_titles_differ_until_the_words_run_out_and_then_are_numbered() -> None:
    titles = make_shop(6000, NOW, np.random.default_rng(0)).titles

    assert len(set(titles)) == 6000
    assert any(title.endswith("no. 2") for title in titles)


def test_a_changed_crowd_likes_other_things_and_has_met_the_same() -> None:
    simulator = a_simulator(items=40)
    crowd = make_population(50, np.random.default_rng(1))
    for _ in range(50):
        simulator.simulate_feedback(0, "r", simulator.shop.item_ids)
    before, met = simulator.click_probability.copy(), simulator.expected_ctr(0, 40)
    simulator.switch_population(replace(crowd, taste=-crowd.taste))

    assert not np.allclose(before, simulator.click_probability)
    assert met.best > 0
    assert simulator.expected_ctr(0, 1000).random > 0


@pytest.mark.parametrize("count", [0, -1])
def test_an_empty_world_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least one item, got {count}"):
        make_shop(count, NOW, np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"at least one shopper, got {count}"):
        make_population(count, np.random.default_rng(0))
