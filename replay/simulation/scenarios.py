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

from online_models.model import Stack
from replay.simulation.simulator import Crowd, Simulator, make_crowd, make_shop
from stream.clock import ManualClock
from stream.records.feature_codec import encode_features

Event = dict[str, Any]
_NOW = 1_767_225_600_000
_SLATE = 10
_ITEMS, _SHOPPERS = 200, 300


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, whether it is genuine, and which detectors may tell of it."""

    name: str
    truth: Literal["clean", "genuine", "poison"]
    detectors: frozenset[str]
    happen: "Callable[[World], None] | None" = None  # when it begins
    change: "Callable[[World, list[Event]], list[Event]] | None" = None  # of the events of a visit, while it lasts
    minutes: float = 1e9  # for which it lasts
    remembers: bool = False  # what was sent before it began


class World:
    """The shop while a scenario goes on."""

    def __init__(self, seed: int, pace: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.clock = ManualClock(_NOW)
        self.shop = make_shop(_ITEMS, _NOW, self.rng)
        self.simulator = Simulator(
            self.shop, make_crowd(_SHOPPERS, self.rng), self.clock, self.rng, searching=0.3, buying=0.4
        )
        self.offered = np.arange(_ITEMS // 2)  # items that are shown: the rest is not in the shop yet
        self.season: Season | None = None
        self.genuine: list[Event] = []
        self.past: list[Event] = []  # what was sent before the scenario began
        self.told: list[dict[str, Any]] = []  # items that are about to be told to the catalogue anew
        self.width = 0  # features that a place is logged with
        self.number = 0
        self.began = 0  # ms
        self.gap = 1 / pace  # seconds between visits, on average

    @property
    def minutes(self) -> float:
        """Since the scenario began."""
        return (self.clock.now_ms() - self.began) / 60_000

    def visit(self) -> list[Event]:
        """One shopper sees a slate and acts."""
        self.clock.advance(float(self.rng.exponential(self.gap)))
        self.number += 1
        shopper, name = self.simulator.next_shopper(), f"r{self.number}"
        items = [self.shop.names[j] for j in self.rng.choice(self.offered, _SLATE, replace=False).tolist()]
        shown = {
            "event_id": f"s{self.number}", "type": "impression", "ts": self.clock.now_ms(), "surface": "home",
            "user_id": self.simulator.users[shopper], "impression_id": name, "items": items,
            "propensities": [_SLATE / self.offered.size] * _SLATE,
        }  # fmt: skip
        _, acts = self.simulator.react(shopper, name, items)
        return [shown, *acts]

    def act(self, user: str, item: str, kind: str = "click", **more: Any) -> Event:
        """Something that a person did, or is said to have done."""
        self.number += 1
        made = {
            "event_id": f"x{self.number}",
            "type": kind,
            "ts": self.clock.now_ms(),
            "user_id": user,
            "item_id": item,
        }
        return made | more


@dataclass(slots=True)
class Season:
    """Two crowds between which the shop goes to and fro."""

    summer: Crowd
    winter: Crowd
    gap: float  # seconds between visits when most come
    minute: int = -1

    def crowd(self, away: float) -> Crowd:
        """Summer at 0, half winter at 1."""
        taste = (1 - 0.5 * away) * self.summer.taste + 0.5 * away * self.winter.taste
        return replace(self.summer, taste=taste)


def play(scenario: Scenario, seed: int, pace: float, calm: float, length: float) -> Iterator[tuple[bool, list[Event]]]:
    """Visits with their events, and whether the scenario is on; `calm` and `length` in minutes, `pace` per second."""
    return happen(World(seed, pace), scenario, calm, length)


def happen(world: World, scenario: Scenario, calm: float, length: float) -> Iterator[tuple[bool, list[Event]]]:
    """The same in a world of one's own, whose `genuine` is what there would be of this visit without the scenario."""
    began = False
    while world.clock.now_ms() < _NOW + (calm + length) * 60_000:
        events = world.visit()
        world.genuine = list(events)
        on = world.clock.now_ms() >= _NOW + calm * 60_000
        if on and not began:
            began, world.began = True, world.clock.now_ms()
            if scenario.happen:
                scenario.happen(world)
        on = on and world.minutes < scenario.minutes
        if on and scenario.change:
            events = scenario.change(world, events)
        if not began and scenario.remembers:
            world.past += events
        yield on, events


def _flip_tastes(world: World) -> None:
    world.simulator.become(make_crowd(_SHOPPERS, world.rng))


def _renew(world: World) -> None:
    world.offered = np.arange(_ITEMS // 2, _ITEMS)


def _turn_with_the_season(world: World, events: list[Event]) -> list[Event]:
    """Tastes, and how many come, go to and fro within 24 minutes: days, played sixty times as fast."""
    if world.season is None:
        world.season = Season(world.simulator.crowd, make_crowd(_SHOPPERS, world.rng), world.gap)
    minute = int(world.minutes)
    if minute != world.season.minute:
        away = 0.5 - 0.5 * math.cos(2 * math.pi * minute / 24)
        world.simulator.become(world.season.crowd(away))
        world.gap, world.season.minute = world.season.gap / (1 - 0.5 * away), minute
    return events


def _show_the_worst(world: World) -> None:
    """What a version that has lost its way would show: the fifth that is liked least."""
    liked = world.simulator.activity @ world.simulator.chance[:, world.offered]
    world.offered = world.offered[np.argsort(liked)[: world.offered.size // 5]]


def _replay(world: World, events: list[Event]) -> list[Event]:
    """Somebody's reader has lost its place, and sends what it has sent before."""
    sent, world.past = world.past[: len(events)], world.past[len(events) :]
    return events + sent


def _go_viral(world: World, events: list[Event]) -> list[Event]:
    """Every third visit is of somebody who looks for the one thing that everybody talks of."""
    if world.rng.random() < 0.33:
        events.append(world.act(events[0]["user_id"], "i7", "view"))
    if world.rng.random() < 0.1:
        events.append(world.act(f"new{world.number}", "i7", "view"))
    return events


def _sell_cheaply(world: World) -> None:
    """Bargains all over the shop: whatever is looked at is twice as likely to be taken."""
    crowd = world.simulator.crowd
    world.simulator.become(replace(crowd, base=crowd.base + 0.8))


def _campaign(world: World, events: list[Event]) -> list[Event]:
    """People whom nobody knows follow a link to one item: most look, some also put it into their cart."""
    if world.rng.random() < 0.5:
        name = f"new{world.number}"
        events.append(world.act(name, "i7", "view"))
        if world.rng.random() < 0.4:
            events.append(world.act(name, "i7", "cart"))
    return events


def _flood(world: World, events: list[Event]) -> list[Event]:
    return events + [world.act("flooder", "i7") for _ in range(10)]


def _pump(world: World, events: list[Event]) -> list[Event]:
    """Thirty accounts that do nothing else."""
    return [*events, world.act(f"shill{world.rng.integers(30)}", "i7")]


def _shill(world: World, events: list[Event]) -> list[Event]:
    """Thirty accounts that act on other things as well, so as to look like anybody."""
    name = f"shill{world.rng.integers(30)}"
    other = world.shop.names[int(world.rng.choice(world.offered))]
    camouflage = [world.act(name, other)] if world.rng.random() < 0.75 else []
    return [*events, world.act(name, "i7"), *camouflage]


def _pump_by_turns(world: World, events: list[Event]) -> list[Event]:
    """Thirty accounts that share ten items, so that each seems to care for many things."""
    acts = [world.act(f"shill{world.rng.integers(30)}", f"i{1 + world.rng.integers(10)}") for _ in range(4)]
    return [*events, *acts]


def _push(world: World, events: list[Event]) -> list[Event]:
    """A partner sends clicks on one item, each in the name of somebody new."""
    acts = [world.act(f"guest{world.number}", "i7", producer="partner") for _ in range(2)]
    return [*events, *acts]


def _break_button(world: World, events: list[Event]) -> list[Event]:
    return [event for event in events if event["type"] != "purchase"]


def _flip_labels(world: World, events: list[Event], share: float) -> list[Event]:
    """What was shown and not clicked is clicked all the same."""
    shown = events[0]
    clicked = {event["item_id"] for event in events[1:]}
    flipped = [item for item in shown["items"] if item not in clicked and world.rng.random() < share]
    return events + [world.act(shown["user_id"], item, impression_id=shown["impression_id"]) for item in flipped]


def _skew(world: World, events: list[Event]) -> list[Event]:
    """The clock of every fifth shopper is four minutes fast."""
    late = int(events[0]["user_id"][1:]) % 5 == 0
    return [event | {"ts": event["ts"] + 240_000} for event in events] if late else events


def _rush(world: World) -> None:
    """A sale: three times as many come, and do what they always do."""
    world.gap /= 3


def _lose_prices(world: World) -> None:
    """The shop's importer sends every item again, without a price."""
    world.told = [{name: value for name, value in item.items() if name != "price"} for item in world.shop.records()]


def _send_bots(world: World, events: list[Event]) -> list[Event]:
    """A net of five hundred accounts, each of which clicks on anything, two or three times a minute."""
    items = world.rng.choice(world.offered, 10).tolist()
    return events + [world.act(f"bot{world.rng.integers(500)}", world.shop.names[j]) for j in items]


def _lose_producers(world: World, events: list[Event]) -> list[Event]:
    """Of what people do one visit in thirty is still told."""
    return events if world.rng.random() < 1 / 30 else []


def _garble(world: World, events: list[Event]) -> list[Event]:
    """A release of the page logs the features of each place in disorder, and with noise of its own."""
    world.width = world.width or len(Stack().feature_names)
    noise = world.rng.normal(0.0, 30.0, (len(events[0]["items"]), world.width))
    return [events[0] | {"features": encode_features(noise.astype(np.float32))}, *events[1:]]


def _forget_surface(world: World, events: list[Event]) -> list[Event]:
    return [{name: value for name, value in event.items() if name != "surface"} for event in events]


SCENARIOS = (
    Scenario("nothing", "clean", frozenset()),
    Scenario(
        "taste flip", "genuine", frozenset({"tastes", "calibration", "loss", "items", "auc"}), happen=_flip_tastes
    ),
    Scenario(
        "seasonal cycle",
        "genuine",
        frozenset({"tastes", "calibration", "loss", "items", "auc"}),
        change=_turn_with_the_season,
    ),
    Scenario("new catalogue", "genuine", frozenset({"items", "loss", "calibration", "auc"}), happen=_renew),
    Scenario("viral item", "genuine", frozenset({"items", "loss", "calibration", "auc"}), change=_go_viral),
    Scenario("campaign", "genuine", frozenset({"items", "loss", "calibration", "auc"}), change=_campaign),
    Scenario("sale rush", "genuine", frozenset({"items", "loss", "calibration", "auc", "features"}), happen=_rush),
    Scenario("bargains", "genuine", frozenset({"items", "loss", "calibration", "auc"}), happen=_sell_cheaply),
    Scenario("click flood", "poison", frozenset({"flood"}), change=_flood),
    Scenario("pumping group", "poison", frozenset({"pumping"}), change=_pump),
    Scenario("shilling group", "poison", frozenset({"pumping"}), change=_shill),
    Scenario("coordinated group", "poison", frozenset({"pumping"}), change=_pump_by_turns),
    Scenario("pushing producer", "poison", frozenset({"producer", "items"}), change=_push),
    Scenario("broken button", "poison", frozenset({"silence"}), change=_break_button, minutes=20),
    Scenario(
        "label flip 5 %", "poison", frozenset({"label_flip"}), change=partial(_flip_labels, share=0.05), minutes=15
    ),
    Scenario(
        "label flip 30 %", "poison", frozenset({"label_flip"}), change=partial(_flip_labels, share=0.3), minutes=15
    ),
    # A clock that is ahead closes slates before they are answered.
    Scenario("skewed clock", "poison", frozenset({"clock_skew", "click_through", "calibration"}), change=_skew),
    Scenario("replayed offsets", "poison", frozenset({"repeats"}), change=_replay, remembers=True),
    Scenario("worse version", "poison", frozenset({"click_through"}), happen=_show_the_worst),
    Scenario("lost surface", "poison", frozenset({"missing_fields"}), change=_forget_surface),
    Scenario("lost prices", "poison", frozenset({"features"}), happen=_lose_prices),
    Scenario("bot net", "poison", frozenset({"event_rate"}), change=_send_bots),
    Scenario("lost producers", "poison", frozenset({"event_rate"}), change=_lose_producers),
    Scenario(
        "garbled features",
        "poison",
        frozenset({"gradient_norm", "update_norm", "features", "label_flip", "auc", "loss", "calibration"}),
        change=_garble,
        minutes=15,
    ),
)
