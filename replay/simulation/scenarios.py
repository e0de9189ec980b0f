"""Changes of the world and attacks on it whose time and kind are known: what the guard is judged by.

Events are made in event time, out of one seed: shoppers who see random slates, click by their true chance, buy and
search; from `START` on something happens, which is genuine or poison.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from online_models.model import RecommenderModel
from replay.simulation.simulator import Population, Simulator, make_population, make_shop
from stream.clock import ManualClock
from stream.records.feature_codec import encode_features

EventDict = dict[str, Any]
_START_MS = 1_767_225_600_000
_SLATE_SIZE = 10
_N_ITEMS, _N_SHOPPERS = 200, 300


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, whether it is genuine, and which detectors may tell of it."""

    name: str
    truth: Literal["clean", "genuine", "poison"]
    detectors: frozenset[str]
    on_start: "Callable[[World], None] | None" = None  # when it begins
    transform: "Callable[[World, list[EventDict]], list[EventDict]] | None" = (
        None  # of the events of a visit, while it lasts
    )
    duration_minutes: float = 1e9  # for which it lasts
    needs_history: bool = False  # what was sent before it began


class World:
    """The shop while a scenario goes on."""

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
        self.offered_items = np.arange(_N_ITEMS // 2)  # items that are shown: the rest is not in the shop yet
        self.seasonality: Seasonality | None = None
        self.genuine_events: list[EventDict] = []
        self.past_events: list[EventDict] = []  # what was sent before the scenario began
        self.catalog_updates: list[dict[str, Any]] = []  # items that are about to be told to the catalogue anew
        self.n_features = 0  # features that a place is logged with
        self.event_number = 0
        self.start_ms = 0  # ms
        self.visit_interval_s = 1 / visits_per_second  # seconds between visits, on average

    @property
    def elapsed_minutes(self) -> float:
        """Since the scenario began."""
        return (self.clock.now_ms() - self.start_ms) / 60_000

    def visit(self) -> list[EventDict]:
        """One shopper sees a slate and acts."""
        self.clock.advance(float(self.rng.exponential(self.visit_interval_s)))
        self.event_number += 1
        shopper, impression_id = self.simulator.next_shopper(), f"r{self.event_number}"
        item_ids = [
            self.shop.item_ids[j] for j in self.rng.choice(self.offered_items, _SLATE_SIZE, replace=False).tolist()
        ]
        impression = {
            "event_id": f"s{self.event_number}", "type": "impression", "ts": self.clock.now_ms(), "surface": "home",
            "user_id": self.simulator.users[shopper], "impression_id": impression_id, "items": item_ids,
            "propensities": [_SLATE_SIZE / self.offered_items.size] * _SLATE_SIZE,
        }  # fmt: skip
        _, actions = self.simulator.simulate_feedback(shopper, impression_id, item_ids)
        return [impression, *actions]

    def make_action(self, user: str, item: str, kind: str = "click", **fields: Any) -> EventDict:
        """Something that a person did, or is said to have done."""
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
    """Two crowds between which the shop goes to and fro."""

    summer: Population
    winter: Population
    peak_interval_s: float  # seconds between visits when most come
    minute: int = -1

    def population_at(self, phase: float) -> Population:
        """Summer at 0, half winter at 1."""
        taste = (1 - 0.5 * phase) * self.summer.taste + 0.5 * phase * self.winter.taste
        return replace(self.summer, taste=taste)


def run_scenario(
    scenario: Scenario, seed: int, visits_per_second: float, warmup: float, duration: float
) -> Iterator[tuple[bool, list[EventDict]]]:
    """Visits with their events, and whether the scenario is on; `calm` and `length` in minutes, `pace` per second."""
    return run_in_world(World(seed, visits_per_second), scenario, warmup, duration)


def run_in_world(
    world: World, scenario: Scenario, warmup: float, duration: float
) -> Iterator[tuple[bool, list[EventDict]]]:
    """The same in a world of one's own, whose `genuine` is what there would be of this visit without the scenario."""
    has_started = False
    while world.clock.now_ms() < _START_MS + (warmup + duration) * 60_000:
        events = world.visit()
        world.genuine_events = list(events)
        is_active = world.clock.now_ms() >= _START_MS + warmup * 60_000
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


def _flip_tastes(world: World) -> None:
    world.simulator.switch_population(make_population(_N_SHOPPERS, world.rng))


def _replace_catalog(world: World) -> None:
    world.offered_items = np.arange(_N_ITEMS // 2, _N_ITEMS)


def _cycle_tastes(world: World, events: list[EventDict]) -> list[EventDict]:
    """Tastes, and how many come, go to and fro within 24 minutes: days, played sixty times as fast."""
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
    """What a version that has lost its way would show: the fifth that is liked least."""
    expected_clicks = world.simulator.activity @ world.simulator.click_probability[:, world.offered_items]
    world.offered_items = world.offered_items[np.argsort(expected_clicks)[: world.offered_items.size // 5]]


def _resend_events(world: World, events: list[EventDict]) -> list[EventDict]:
    """Somebody's reader has lost its place, and sends what it has sent before."""
    resent, world.past_events = world.past_events[: len(events)], world.past_events[len(events) :]
    return events + resent


def _go_viral(world: World, events: list[EventDict]) -> list[EventDict]:
    """Every third visit is of somebody who looks for the one thing that everybody talks of."""
    if world.rng.random() < 0.33:
        events.append(world.make_action(events[0]["user_id"], "i7", "view"))
    if world.rng.random() < 0.1:
        events.append(world.make_action(f"new{world.event_number}", "i7", "view"))
    return events


def _lower_prices(world: World) -> None:
    """Bargains all over the shop: whatever is looked at is twice as likely to be taken."""
    population = world.simulator.population
    world.simulator.switch_population(replace(population, base_log_odds=population.base_log_odds + 0.8))


def _add_campaign_visits(world: World, events: list[EventDict]) -> list[EventDict]:
    """People whom nobody knows follow a link to one item: most look, some also put it into their cart."""
    if world.rng.random() < 0.5:
        user_id = f"new{world.event_number}"
        events.append(world.make_action(user_id, "i7", "view"))
        if world.rng.random() < 0.4:
            events.append(world.make_action(user_id, "i7", "cart"))
    return events


def _flood(world: World, events: list[EventDict]) -> list[EventDict]:
    return events + [world.make_action("flooder", "i7") for _ in range(10)]


def _pump(world: World, events: list[EventDict]) -> list[EventDict]:
    """Thirty accounts that do nothing else."""
    return [*events, world.make_action(f"shill{world.rng.integers(30)}", "i7")]


def _shill(world: World, events: list[EventDict]) -> list[EventDict]:
    """Thirty accounts that act on other things as well, so as to look like anybody."""
    user_id = f"shill{world.rng.integers(30)}"
    other = world.shop.item_ids[int(world.rng.choice(world.offered_items))]
    camouflage = [world.make_action(user_id, other)] if world.rng.random() < 0.75 else []
    return [*events, world.make_action(user_id, "i7"), *camouflage]


def _pump_in_turns(world: World, events: list[EventDict]) -> list[EventDict]:
    """Thirty accounts that share ten items, so that each seems to care for many things."""
    actions = [world.make_action(f"shill{world.rng.integers(30)}", f"i{1 + world.rng.integers(10)}") for _ in range(4)]
    return [*events, *actions]


def _push(world: World, events: list[EventDict]) -> list[EventDict]:
    """A partner sends clicks on one item, each in the name of somebody new."""
    actions = [world.make_action(f"guest{world.event_number}", "i7", producer="partner") for _ in range(2)]
    return [*events, *actions]


def _break_button(world: World, events: list[EventDict]) -> list[EventDict]:
    return [event for event in events if event["type"] != "purchase"]


def _flip_labels(world: World, events: list[EventDict], share: float) -> list[EventDict]:
    """What was shown and not clicked is clicked all the same."""
    impression = events[0]
    clicked_ids = {event["item_id"] for event in events[1:]}
    flipped_ids = [item for item in impression["items"] if item not in clicked_ids and world.rng.random() < share]
    return events + [
        world.make_action(impression["user_id"], item, impression_id=impression["impression_id"])
        for item in flipped_ids
    ]


def _skew_clock(world: World, events: list[EventDict]) -> list[EventDict]:
    """The clock of every fifth shopper is four minutes fast."""
    is_fast = int(events[0]["user_id"][1:]) % 5 == 0
    return [event | {"ts": event["ts"] + 240_000} for event in events] if is_fast else events


def _start_sale(world: World) -> None:
    """A sale: three times as many come, and do what they always do."""
    world.visit_interval_s /= 3


def _lose_prices(world: World) -> None:
    """The shop's importer sends every item again, without a price."""
    world.catalog_updates = [
        {name: value for name, value in item.items() if name != "price"} for item in world.shop.records()
    ]


def _send_bots(world: World, events: list[EventDict]) -> list[EventDict]:
    """A net of five hundred accounts, each of which clicks on anything, two or three times a minute."""
    items = world.rng.choice(world.offered_items, 10).tolist()
    return events + [world.make_action(f"bot{world.rng.integers(500)}", world.shop.item_ids[j]) for j in items]


def _lose_producers(world: World, events: list[EventDict]) -> list[EventDict]:
    """Of what people do one visit in thirty is still told."""
    return events if world.rng.random() < 1 / 30 else []


def _garble_features(world: World, events: list[EventDict]) -> list[EventDict]:
    """A release of the page logs the features of each place in disorder, and with noise of its own."""
    world.n_features = world.n_features or len(RecommenderModel().feature_names)
    noise = world.rng.normal(0.0, 30.0, (len(events[0]["items"]), world.n_features))
    return [events[0] | {"features": encode_features(noise.astype(np.float32))}, *events[1:]]


def _forget_surface(world: World, events: list[EventDict]) -> list[EventDict]:
    return [{name: value for name, value in event.items() if name != "surface"} for event in events]


SCENARIOS = (
    Scenario("nothing", "clean", frozenset()),
    Scenario(
        "taste flip",
        "genuine",
        frozenset({"preference_shift", "calibration", "loss", "item_distribution", "auc"}),
        on_start=_flip_tastes,
    ),
    Scenario(
        "seasonal cycle",
        "genuine",
        frozenset({"preference_shift", "calibration", "loss", "item_distribution", "auc"}),
        transform=_cycle_tastes,
    ),
    Scenario(
        "new catalogue",
        "genuine",
        frozenset({"item_distribution", "loss", "calibration", "auc"}),
        on_start=_replace_catalog,
    ),
    Scenario(
        "viral item", "genuine", frozenset({"item_distribution", "loss", "calibration", "auc"}), transform=_go_viral
    ),
    Scenario(
        "campaign",
        "genuine",
        frozenset({"item_distribution", "loss", "calibration", "auc"}),
        transform=_add_campaign_visits,
    ),
    Scenario(
        "sale rush",
        "genuine",
        frozenset({"item_distribution", "loss", "calibration", "auc", "feature_drift"}),
        on_start=_start_sale,
    ),
    Scenario(
        "bargains", "genuine", frozenset({"item_distribution", "loss", "calibration", "auc"}), on_start=_lower_prices
    ),
    Scenario("click flood", "poison", frozenset({"flood"}), transform=_flood),
    Scenario("pumping group", "poison", frozenset({"shilling"}), transform=_pump),
    Scenario("shilling group", "poison", frozenset({"shilling"}), transform=_shill),
    Scenario("coordinated group", "poison", frozenset({"shilling"}), transform=_pump_in_turns),
    Scenario("pushing producer", "poison", frozenset({"producer", "item_distribution"}), transform=_push),
    Scenario("broken button", "poison", frozenset({"action_outage"}), transform=_break_button, duration_minutes=20),
    Scenario(
        "label flip 5 %",
        "poison",
        frozenset({"label_flip"}),
        transform=partial(_flip_labels, share=0.05),
        duration_minutes=15,
    ),
    Scenario(
        "label flip 30 %",
        "poison",
        frozenset({"label_flip"}),
        transform=partial(_flip_labels, share=0.3),
        duration_minutes=15,
    ),
    # A clock that is ahead closes slates before they are answered.
    Scenario(
        "skewed clock", "poison", frozenset({"clock_skew", "click_through", "calibration"}), transform=_skew_clock
    ),
    Scenario(
        "replayed offsets", "poison", frozenset({"stale_duplicates"}), transform=_resend_events, needs_history=True
    ),
    Scenario("worse version", "poison", frozenset({"click_through"}), on_start=_show_worst_items),
    Scenario("lost surface", "poison", frozenset({"missing_fields"}), transform=_forget_surface),
    Scenario("lost prices", "poison", frozenset({"feature_drift"}), on_start=_lose_prices),
    Scenario("bot net", "poison", frozenset({"event_rate"}), transform=_send_bots),
    Scenario("lost producers", "poison", frozenset({"event_rate"}), transform=_lose_producers),
    Scenario(
        "garbled features",
        "poison",
        frozenset({"gradient_norm", "update_norm", "feature_drift", "label_flip", "auc", "loss", "calibration"}),
        transform=_garble_features,
        duration_minutes=15,
    ),
)
