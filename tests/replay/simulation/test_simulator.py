"""Simulated shoppers behave as the true probabilities say."""

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


def make_simulator(shoppers: int = 50, items: int = 200, seed: int = 1, search_probability: float = 0.0) -> Simulator:
    rng = np.random.default_rng(seed)
    clock = ManualClock(NOW)
    return Simulator(make_shop(items, NOW, rng), make_population(shoppers, rng), clock, rng, search_probability)


def make_slates(simulator: Simulator, shopper: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Make the three kinds of slates of `ExpectedCTR`, for a shopper without interactions."""
    probability = simulator.click_probability[shopper]
    return {
        "random": rng.choice(probability.size, K, replace=False).tolist(),
        "popular": np.argsort(-(simulator.activity @ simulator.click_probability))[:K].tolist(),
        "best": np.argsort(-probability)[:K].tolist(),
    }


@pytest.mark.parametrize("kind", ["random", "popular", "best"])
def test_slates_earn_their_expected_clicks(kind: str) -> None:
    rng = np.random.default_rng(3)
    clicks, expected = [], []
    for seed in range(8):
        simulator = make_simulator(seed=seed)
        for shopper in range(len(simulator.users)):
            expected.append(getattr(simulator.expected_ctr(shopper, K), kind) * K)
            slate = [simulator.shop.item_ids[j] for j in make_slates(simulator, shopper, rng)[kind]]
            clicks.append(simulator.simulate_feedback(shopper, "r", slate)[0])
    error = np.std(clicks) / np.sqrt(len(clicks))

    assert np.mean(clicks) == pytest.approx(np.mean(expected), abs=4 * error)


def test_no_slate_earns_more_than_the_best() -> None:
    simulator = make_simulator()
    rng = np.random.default_rng(0)
    probability = simulator.click_probability[3]
    earned = [probability[rng.choice(probability.size, K, replace=False)] @ position_bias(K) / K for _ in range(500)]

    assert max(earned) <= simulator.expected_ctr(3, K).best


def test_preferences_raise_expected_clicks() -> None:
    simulator = make_simulator(shoppers=400, items=1000, seed=7)
    expected = [simulator.expected_ctr(shopper, K) for shopper in range(400)]
    random, popular, best = (
        np.mean([getattr(rates, kind) for rates in expected]) for kind in ("random", "popular", "best")
    )

    assert 1.5 * random < popular
    assert 3 * popular < best < 0.5


def test_known_items_have_no_expected_clicks() -> None:
    simulator = make_simulator(items=K)
    before = simulator.expected_ctr(0, K)
    while simulator.expected_ctr(0, K).best > 0:
        simulator.simulate_feedback(0, "r", simulator.shop.item_ids)

    assert before.best > 0
    assert simulator.expected_ctr(0, K).random == simulator.expected_ctr(0, K).popular == 0


def test_fewer_items_than_k_make_a_shorter_slate() -> None:
    simulator = make_simulator(items=3)

    assert simulator.expected_ctr(0, K).random == pytest.approx(
        simulator.click_probability[0].mean() * position_bias(3).mean()
    )


def test_seed_determines_the_shoppers() -> None:
    runs = []
    for _ in range(2):
        simulator = make_simulator(search_probability=0.5)
        slate = simulator.shop.item_ids[:K]
        runs.append([simulator.simulate_feedback(simulator.next_shopper(), "r", slate) for _ in range(100)])

    assert runs[0] == runs[1]


def test_active_shoppers_visit_more_often() -> None:
    simulator = make_simulator(shoppers=3)
    visits = np.bincount([simulator.next_shopper() for _ in range(5000)], minlength=3) / 5000

    np.testing.assert_allclose(visits, simulator.activity, atol=0.03)


def test_events_are_valid() -> None:
    simulator = make_simulator(search_probability=1.0)
    item_ids = simulator.shop.item_ids
    feedback = [simulator.simulate_feedback(simulator.next_shopper(), "r7", item_ids)[1] for _ in range(200)]
    parsed = [parse(json.dumps(event).encode()) for events in feedback for event in events]
    events = [event for event in parsed if isinstance(event, Event)]

    assert len(events) == len(parsed)
    assert validate(events, [NOW] * len(events), Limits(max_age=60, max_skew=1)) == {}
    assert len({event.event_id for event in events}) == len(events)
    assert {(event.type, event.impression_id) for event in events} == {("click", "r7"), ("view", None)}


def test_items_of_other_shops_are_not_clicked() -> None:
    simulator = make_simulator()

    assert all(simulator.simulate_feedback(0, "r", ["unknown"]) == (0, []) for _ in range(200))


def test_shoppers_search_for_what_they_like() -> None:
    simulator = make_simulator(shoppers=1, items=500, search_probability=1.0)
    probability = simulator.click_probability[0]
    found = [event["item_id"] for _ in range(100) for event in simulator.simulate_feedback(0, "r", [])[1]]

    assert len(set(found)) == 100
    assert probability[[simulator.shop.item_ids.index(item) for item in found]].mean() > 1.5 * probability.mean()


def test_catalog_is_valid_and_hides_the_truth() -> None:
    records = make_simulator().shop.records()
    items = [parse_item(json.dumps(record).encode()) for record in records]

    assert all(item.title and item.categories[0] in CATEGORIES and item.created_ts for item in items)
    assert {name for record in records for name in record} == {"item_id", "title", "categories", "price", "created_ts"}


def test_titles_get_numbers_when_words_run_out() -> None:
    titles = make_shop(6000, NOW, np.random.default_rng(0)).titles

    assert len(set(titles)) == 6000
    assert any(title.endswith("no. 2") for title in titles)


def test_new_population_keeps_the_interactions() -> None:
    simulator = make_simulator(items=40)
    population = make_population(50, np.random.default_rng(1))
    for _ in range(50):
        simulator.simulate_feedback(0, "r", simulator.shop.item_ids)
    before, expected = simulator.click_probability.copy(), simulator.expected_ctr(0, 40)
    simulator.switch_population(replace(population, taste=-population.taste))

    assert not np.allclose(before, simulator.click_probability)
    assert expected.best > 0
    assert simulator.expected_ctr(0, 1000).random > 0


@pytest.mark.parametrize("count", [0, -1])
def test_empty_shop_and_population_are_rejected(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least one item, got {count}"):
        make_shop(count, NOW, np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"at least one shopper, got {count}"):
        make_population(count, np.random.default_rng(0))
