"""Scenarios with a known start and cause, genuine or poison, for evaluating the guard.

One seed determines all events. Shoppers see random slates, click with their true probabilities, purchase and search.
From its start on, a scenario changes the world or the events.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from online_models.model import RecommenderModel
from replay.simulation.simulator import Population, Simulator, make_population, make_shop
from stream.clock import MINUTE_MS, ManualClock
from stream.records.feature_codec import encode_features

EventDict = dict[str, Any]
_START_MS = 1_767_225_600_000
_SLATE_SIZE = 10
_N_ITEMS, _N_SHOPPERS = 200, 300


@dataclass(frozen=True, slots=True)
class Scenario:
    """A change of the world, its ground truth, and the detectors that may fire."""

    name: str
    truth: Literal["clean", "genuine", "poison"]
    detectors: frozenset[str]
    on_start: "StartFunction | None" = None  # called once, when the scenario starts
    transform: "TransformFunction | None" = None  # applied to the events of every visit of the scenario
    duration_minutes: float = 1e9
    needs_history: bool = False  # keep the events before the start in `World.past_events`


StartFunction = Callable[["World"], None]
TransformFunction = Callable[["World", list[EventDict]], list[EventDict]]


class World:
    """State of the simulated shop during a scenario."""

    def __init__(self, seed: int, visits_per_second: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.clock = ManualClock(_START_MS)
        self.shop = make_shop(_N_ITEMS, _START_MS, self.rng)
        self.simulator = Simulator(
            self.shop,
            make_population(_N_SHOPPERS, self.rng),
            self.clock,
            self.rng,
            search_probability=0.3,
            purchase_probability=0.4,
        )
        self.offered_items = np.arange(_N_ITEMS // 2)  # rows of the items in slates; the others are not for sale yet
        self.seasonality: Seasonality | None = None
        self.genuine_events: list[EventDict] = []  # of the last visit, without the scenario
        self.past_events: list[EventDict] = []  # sent before the scenario started
        self.catalog_updates: list[dict[str, Any]] = []  # items to send to the catalog again
        self.n_features = 0  # logged per slate item
        self.event_number = 0
        self.start_ms = 0  # start of the scenario
        self.visit_interval_s = 1 / visits_per_second  # mean seconds between visits

    @property
    def elapsed_minutes(self) -> float:
        """Minutes since the scenario started."""
        return (self.clock.now_ms() - self.start_ms) / MINUTE_MS

    def visit(self) -> list[EventDict]:
        """Simulate one shopper with one random slate."""
        self.clock.advance(float(self.rng.exponential(self.visit_interval_s)))
        self.event_number += 1
        shopper, impression_id = self.simulator.next_shopper(), f"r{self.event_number}"
        rows = self.rng.choice(self.offered_items, _SLATE_SIZE, replace=False).tolist()
        item_ids = [self.shop.item_ids[j] for j in rows]
        impression = {
            "event_id": f"s{self.event_number}", "type": "impression", "ts": self.clock.now_ms(), "surface": "home",
            "user_id": self.simulator.users[shopper], "impression_id": impression_id, "items": item_ids,
            "propensities": [_SLATE_SIZE / self.offered_items.size] * _SLATE_SIZE,
        }  # fmt: skip
        _, actions = self.simulator.simulate_feedback(shopper, impression_id, item_ids)
        return [impression, *actions]

    def make_action(self, user: str, item: str, kind: str = "click", **fields: Any) -> EventDict:
        """Make an action, genuine or forged."""
        self.event_number += 1
        event = {
            "event_id": f"x{self.event_number}",
            "type": kind,
            "ts": self.clock.now_ms(),
            "user_id": user,
            "item_id": item,
        }
        return event | fields


@dataclass(slots=True)
class Seasonality:
    """Two populations between which the shop alternates."""

    summer: Population
    winter: Population
    peak_interval_s: float  # mean seconds between visits at the peak
    minute: int = -1

    def population_at(self, phase: float) -> Population:
        """Interpolate the preferences: summer at phase 0, half winter at phase 1."""
        taste = (1 - 0.5 * phase) * self.summer.taste + 0.5 * phase * self.winter.taste
        return replace(self.summer, taste=taste)


def run_scenario(
    scenario: Scenario, seed: int, visits_per_second: float, warmup: float, duration: float
) -> Iterator[tuple[bool, list[EventDict]]]:
    """Yield, per visit, True while the scenario is active and the events; times in minutes."""
    return run_in_world(World(seed, visits_per_second), scenario, warmup, duration)


def run_in_world(
    world: World, scenario: Scenario, warmup: float, duration: float
) -> Iterator[tuple[bool, list[EventDict]]]:
    """Run a scenario in a given world; see `World.genuine_events`."""
    has_started = False
    while world.clock.now_ms() < _START_MS + (warmup + duration) * MINUTE_MS:
        events = world.visit()
        world.genuine_events = list(events)
        is_active = world.clock.now_ms() >= _START_MS + warmup * MINUTE_MS
        if is_active and not has_started:
            has_started, world.start_ms = True, world.clock.now_ms()
            if scenario.on_start:
                scenario.on_start(world)
        is_active = is_active and world.elapsed_minutes < scenario.duration_minutes
        if is_active and scenario.transform:
            events = scenario.transform(world, events)
        if not has_started and scenario.needs_history:
            world.past_events += events
        yield is_active, events


def _shift_preferences(world: World) -> None:
    world.simulator.switch_population(make_population(_N_SHOPPERS, world.rng))


def _replace_catalog(world: World) -> None:
    world.offered_items = np.arange(_N_ITEMS // 2, _N_ITEMS)


def _cycle_preferences(world: World, events: list[EventDict]) -> list[EventDict]:
    """Vary preferences and traffic with a period of 24 minutes: days at sixty times the speed."""
    if world.seasonality is None:
        world.seasonality = Seasonality(
            world.simulator.population, make_population(_N_SHOPPERS, world.rng), world.visit_interval_s
        )
    minute = int(world.elapsed_minutes)
    if minute != world.seasonality.minute:
        phase = 0.5 - 0.5 * math.cos(2 * math.pi * minute / 24)
        world.simulator.switch_population(world.seasonality.population_at(phase))
        world.visit_interval_s, world.seasonality.minute = world.seasonality.peak_interval_s / (1 - 0.5 * phase), minute
    return events


def _show_worst_items(world: World) -> None:
    """Show what a broken version would show: the least liked fifth of the items."""
    expected_clicks = world.simulator.activity @ world.simulator.click_probability[:, world.offered_items]
    world.offered_items = world.offered_items[np.argsort(expected_clicks)[: world.offered_items.size // 5]]


def _resend_events(world: World, events: list[EventDict]) -> list[EventDict]:
    """Resend old events, like a consumer that lost its offset."""
    resent, world.past_events = world.past_events[: len(events)], world.past_events[len(events) :]
    return events + resent


def _go_viral(world: World, events: list[EventDict]) -> list[EventDict]:
    """Add views of one popular item: by every third visitor and by new users."""
    if world.rng.random() < 0.33:
        events.append(world.make_action(events[0]["user_id"], "i7", "view"))
    if world.rng.random() < 0.1:
        events.append(world.make_action(f"new{world.event_number}", "i7", "view"))
    return events


def _lower_prices(world: World) -> None:
    """Raise all click probabilities, to about twice their value."""
    population = world.simulator.population
    world.simulator.switch_population(replace(population, base_log_odds=population.base_log_odds + 0.8))


def _add_campaign_visits(world: World, events: list[EventDict]) -> list[EventDict]:
    """Add new users who follow a link to one item; 40 % of them also add it to their cart."""
    if world.rng.random() < 0.5:
        user_id = f"new{world.event_number}"
        events.append(world.make_action(user_id, "i7", "view"))
        if world.rng.random() < 0.4:
            events.append(world.make_action(user_id, "i7", "cart"))
    return events


def _flood(world: World, events: list[EventDict]) -> list[EventDict]:
    """One account clicks one item ten times per visit of the shop."""
    return events + [world.make_action("flooder", "i7") for _ in range(10)]


def _pump(world: World, events: list[EventDict]) -> list[EventDict]:
    """Thirty accounts that only click one item."""
    return [*events, world.make_action(f"shill{world.rng.integers(30)}", "i7")]


def _shill(world: World, events: list[EventDict]) -> list[EventDict]:
    """Thirty accounts that click one item and, as camouflage, other items."""
    user_id = f"shill{world.rng.integers(30)}"
    other = world.shop.item_ids[int(world.rng.choice(world.offered_items))]
    camouflage = [world.make_action(user_id, other)] if world.rng.random() < 0.75 else []
    return [*events, world.make_action(user_id, "i7"), *camouflage]


def _pump_in_turns(world: World, events: list[EventDict]) -> list[EventDict]:
    """Thirty accounts that click ten items in turns, so that each looks diverse."""
    actions = [world.make_action(f"shill{world.rng.integers(30)}", f"i{1 + world.rng.integers(10)}") for _ in range(4)]
    return [*events, *actions]


def _push(world: World, events: list[EventDict]) -> list[EventDict]:
    """A producer sends clicks on one item, each with a new user id."""
    actions = [world.make_action(f"guest{world.event_number}", "i7", producer="partner") for _ in range(2)]
    return [*events, *actions]


def _break_button(world: World, events: list[EventDict]) -> list[EventDict]:
    """Lose all purchases."""
    return [event for event in events if event["type"] != "purchase"]


def _flip_labels(world: World, events: list[EventDict], share: float) -> list[EventDict]:
    """Click a share of the shown items that were not clicked."""
    impression = events[0]
    clicked_ids = {event["item_id"] for event in events[1:]}
    flipped_ids = [item for item in impression["items"] if item not in clicked_ids and world.rng.random() < share]
    return events + [
        world.make_action(impression["user_id"], item, impression_id=impression["impression_id"])
        for item in flipped_ids
    ]


def _skew_clock(world: World, events: list[EventDict]) -> list[EventDict]:
    """Set the clock of every fifth shopper four minutes fast."""
    is_fast = int(events[0]["user_id"][1:]) % 5 == 0
    return [event | {"ts": event["ts"] + 240_000} for event in events] if is_fast else events


def _start_sale(world: World) -> None:
    """Triple the traffic without changing behavior."""
    world.visit_interval_s /= 3


def _lose_prices(world: World) -> None:
    """Send all catalog items again without a price, like a broken importer."""
    world.catalog_updates = [
        {name: value for name, value in item.items() if name != "price"} for item in world.shop.records()
    ]


def _send_bots(world: World, events: list[EventDict]) -> list[EventDict]:
    """Add random clicks of 500 accounts, two or three a minute each."""
    items = world.rng.choice(world.offered_items, 10).tolist()
    return events + [world.make_action(f"bot{world.rng.integers(500)}", world.shop.item_ids[j]) for j in items]


def _lose_producers(world: World, events: list[EventDict]) -> list[EventDict]:
    """Lose the events of 29 visits out of 30."""
    return events if world.rng.random() < 1 / 30 else []


def _garble_features(world: World, events: list[EventDict]) -> list[EventDict]:
    """Replace the logged features by noise, like a broken release of the page."""
    world.n_features = world.n_features or len(RecommenderModel().feature_names)
    noise = world.rng.normal(0.0, 30.0, (len(events[0]["items"]), world.n_features))
    return [events[0] | {"features": encode_features(noise.astype(np.float32))}, *events[1:]]


def _lose_surface(world: World, events: list[EventDict]) -> list[EventDict]:
    """Remove the surface of all events."""
    return [{name: value for name, value in event.items() if name != "surface"} for event in events]


_MODEL_DRIFT = frozenset({"item_distribution", "loss", "calibration", "auc"})
_PREFERENCE_DRIFT = _MODEL_DRIFT | {"preference_shift"}
_GARBAGE = frozenset({"gradient_norm", "update_norm", "feature_drift", "label_flip", "auc", "loss", "calibration"})
_SKEW = frozenset({"clock_skew", "click_through", "calibration"})
SCENARIOS = (
    Scenario("nothing", "clean", frozenset()),
    Scenario("preference shift", "genuine", _PREFERENCE_DRIFT, on_start=_shift_preferences),
    Scenario("seasonal cycle", "genuine", _PREFERENCE_DRIFT, transform=_cycle_preferences),
    Scenario("new catalog", "genuine", _MODEL_DRIFT, on_start=_replace_catalog),
    Scenario("viral item", "genuine", _MODEL_DRIFT, transform=_go_viral),
    Scenario("campaign", "genuine", _MODEL_DRIFT, transform=_add_campaign_visits),
    Scenario("sale rush", "genuine", _MODEL_DRIFT | {"feature_drift"}, on_start=_start_sale),
    Scenario("bargains", "genuine", _MODEL_DRIFT, on_start=_lower_prices),
    Scenario("click flood", "poison", frozenset({"flood"}), transform=_flood),
    Scenario("pumping group", "poison", frozenset({"shilling"}), transform=_pump),
    Scenario("shilling group", "poison", frozenset({"shilling"}), transform=_shill),
    Scenario("coordinated group", "poison", frozenset({"shilling"}), transform=_pump_in_turns),
    Scenario("pushing producer", "poison", frozenset({"producer", "item_distribution"}), transform=_push),
    Scenario("broken button", "poison", frozenset({"action_outage"}), transform=_break_button, duration_minutes=20),
    Scenario(
        "label flip 5 %", "poison", frozenset({"label_flip"}), transform=partial(_flip_labels, share=0.05),
        duration_minutes=15,
    ),
    Scenario(
        "label flip 30 %", "poison", frozenset({"label_flip"}), transform=partial(_flip_labels, share=0.3),
        duration_minutes=15,
    ),
    # A fast clock closes the attribution windows before the clicks arrive.
    Scenario("skewed clock", "poison", _SKEW, transform=_skew_clock),
    Scenario(
        "replayed offsets", "poison", frozenset({"stale_duplicates"}), transform=_resend_events, needs_history=True
    ),
    Scenario("worse version", "poison", frozenset({"click_through"}), on_start=_show_worst_items),
    Scenario("lost surface", "poison", frozenset({"missing_fields"}), transform=_lose_surface),
    Scenario("lost prices", "poison", frozenset({"feature_drift"}), on_start=_lose_prices),
    Scenario("bot net", "poison", frozenset({"event_rate"}), transform=_send_bots),
    Scenario("lost producers", "poison", frozenset({"event_rate"}), transform=_lose_producers),
    Scenario("garbled features", "poison", _GARBAGE, transform=_garble_features, duration_minutes=15),
)  # fmt: skip
