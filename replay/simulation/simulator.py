"""Simulated shop and shoppers with known preferences, click probabilities and best slates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.clock import DAY_MS, Clock

_WORDS = {
    "lamps": "desk lamp, floor lamp, lantern, night light, spotlight, string lights, reading lamp, pendant",
    "chairs": "armchair, stool, rocking chair, bench, deck chair, office chair, footrest, bean bag",
    "kitchen": "teapot, frying pan, bread knife, mixing bowl, kettle, spice rack, whisk, coffee mill",
    "garden": "watering can, spade, bird house, flower pot, hedge shears, rain barrel, trellis, wheelbarrow",
    "bags": "rucksack, tote bag, satchel, suitcase, belt bag, duffel, laptop sleeve, purse",
    "shoes": "sneakers, hiking boots, sandals, loafers, slippers, running shoes, wellingtons, clogs",
    "coats": "raincoat, parka, wool coat, windbreaker, cape, trench coat, puffer jacket, waistcoat",
    "toys": "puzzle, train set, kite, teddy bear, building bricks, yo-yo, spinning top, dolls' house",
    "sports": "yoga mat, tennis racket, football, dumbbell, skipping rope, climbing rope, frisbee, snorkel",
    "bikes": "bell, saddle, panniers, helmet, floor pump, front light, lock, mudguards",
    "books": "cookbook, atlas, thriller, poetry volume, travel guide, biography, picture book, field guide",
    "music": "ukulele, metronome, drumsticks, harmonica, record player, headphones, tambourine, recorder",
    "art": "sketchbook, watercolors, easel, clay, brush set, charcoal, linocut kit, picture frame",
    "tools": "hammer, cordless drill, spirit level, hand saw, toolbox, tape measure, chisel set, vice",
    "bath": "towel, bath mat, soap dish, robe, hair brush, laundry basket, mirror, shower curtain",
    "tech": "keyboard, webcam, power bank, speaker, e-reader, router, dash cam, smart plug",
}
CATEGORIES = tuple(_WORDS)
_ADJECTIVES = (
    "Walnut", "Copper", "Nordic", "Vintage", "Folding", "Striped", "Compact", "Linen", "Cobalt", "Rustic",
    "Featherlight", "Classic", "Bamboo", "Midnight", "Coral", "Enamel", "Hand-made", "Everyday", "Alpine",
    "Velvet", "Mustard", "Slate", "Quiet", "Sunday",
)  # fmt: skip
_STYLES = 6
_POSITION_DECAY = 0.3  # examination probability of position p: (1 + p) ** -_POSITION_DECAY


@dataclass(frozen=True)
class Shop:
    """Items with their hidden quality and style."""

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    category: np.ndarray  # (m,) int, index in CATEGORIES
    price: np.ndarray  # (m,) float64
    created: np.ndarray  # (m,) int64, ms
    quality: np.ndarray  # (m,) float64, hidden from the model
    style: np.ndarray  # (m, s) float64, hidden: visible only through clicks

    def records(self) -> list[dict[str, Any]]:
        """Catalog records as a shop sends them."""
        columns = zip(
            self.item_ids, self.titles, self.category, self.price.tolist(), self.created.tolist(), strict=True
        )
        return [
            {
                "item_id": name,
                "title": title,
                "categories": [CATEGORIES[category]],
                "price": price,
                "created_ts": created,
            }
            for name, title, category, price, created in columns
        ]


@dataclass(frozen=True)
class Population:
    """Preferences of the shoppers. Drift means switching to another population."""

    taste: np.ndarray  # (n, categories) float64
    style: np.ndarray  # (n, s) float64
    activity: np.ndarray  # (n,) float64, share of all requests, sums to 1
    base_log_odds: float = -4.2  # log-odds of a click without any preference

    def click_probabilities(self, shop: Shop) -> np.ndarray:
        """Probability that a shopper who examines an item clicks it, (n, m) float64."""
        appeal = self.base_log_odds + self.taste[:, shop.category] + self.style @ shop.style.T + shop.quality
        probability: np.ndarray = 1 / (1 + np.exp(-appeal))
        return probability


@dataclass(frozen=True, slots=True)
class ExpectedCTR:
    """True expected clicks per slate item of three kinds of slates, for one shopper."""

    random: float
    popular: float  # items with the most expected clicks of the whole population
    best: float  # items with the highest click probability of this shopper


def position_bias(k: int) -> np.ndarray:
    """Probability that a shopper examines each position of a slate, (k,) float64."""
    bias: np.ndarray = (1.0 + np.arange(k)) ** -_POSITION_DECAY
    return bias


def make_shop(items: int, now_ms: int, rng: np.random.Generator) -> Shop:
    """Make items that were created in the year before `now_ms`."""
    if items < 1:
        raise ValueError(f"a shop needs at least one item, got {items}")
    category = rng.integers(len(CATEGORIES), size=items)
    return Shop(
        item_ids=tuple(f"i{j + 1}" for j in range(items)),
        titles=_make_titles(category, rng),
        category=category,
        price=np.round(np.exp(rng.normal(3.2, 0.8, items)), 2),
        created=now_ms - rng.integers(365 * DAY_MS, size=items),
        quality=rng.normal(0.0, 0.4, items),
        style=rng.normal(0.0, 1.0, (items, _STYLES)) / np.sqrt(_STYLES),
    )


def make_population(shoppers: int, rng: np.random.Generator, appeal: float = 0.0) -> Population:
    """Make shoppers who like two or three categories and a style each; a few visit often.

    `appeal`: standard deviation, in log-odds, of a category's appeal to all shoppers.
    """
    if shoppers < 1:
        raise ValueError(f"a population needs at least one shopper, got {shoppers}")
    order = np.argsort(rng.random((shoppers, len(CATEGORIES))), axis=1)
    is_liked = order < rng.integers(2, 4, (shoppers, 1))
    activity = rng.lognormal(0.0, 0.6, shoppers)
    taste = np.where(is_liked, rng.normal(2.5, 0.4, order.shape), rng.normal(0.0, 0.2, order.shape))
    style = rng.normal(0.0, 0.5, (shoppers, _STYLES))
    if appeal:
        taste = taste + rng.normal(0.0, appeal, len(CATEGORIES))
    return Population(taste, style, activity / activity.sum())


def _make_titles(category: np.ndarray, rng: np.random.Generator) -> tuple[str, ...]:
    """Make titles; they repeat with a number when the words run out."""
    titles = []
    counts = dict.fromkeys(range(len(CATEGORIES)), 0)
    order = rng.permutation(len(_ADJECTIVES) * 8)
    for c in category.tolist():
        pair = int(order[counts[c] % order.size])
        edition = counts[c] // order.size
        title = f"{_ADJECTIVES[pair // 8]} {_WORDS[CATEGORIES[c]].split(', ')[pair % 8]}"
        titles.append(f"{title} no. {edition + 1}" if edition else title)
        counts[c] += 1
    return tuple(titles)


class Simulator:
    """Shoppers who visit, click with true probabilities, search and remember interactions."""

    def __init__(
        self,
        shop: Shop,
        population: Population,
        clock: Clock,
        rng: np.random.Generator,
        search_probability: float = 0.1,
        purchase_probability: float = 0.0,
    ) -> None:
        self.shop = shop
        self.users = tuple(f"u{i + 1}" for i in range(population.activity.size))
        self._clock = clock
        self._rng = rng
        self._search_probability = search_probability  # probability that a shopper searches after a slate
        self._purchase_probability = purchase_probability  # probability that a clicked item is purchased
        self._item_rows = {item_id: j for j, item_id in enumerate(shop.item_ids)}
        self._interacted = np.zeros((len(self.users), len(shop.item_ids)), np.bool_)
        self._n_events = 0
        self.switch_population(population)

    @property
    def interacted(self) -> np.ndarray:
        """Items that each shopper has clicked or viewed, (shoppers, items) bool."""
        return self._interacted

    def switch_population(self, population: Population) -> None:
        """Replace the preferences of the shoppers; their interactions stay."""
        self.population = population
        self.activity = population.activity
        self.click_probability = population.click_probabilities(self.shop)  # (shoppers, items) float64
        self._popularity_order = np.argsort(-(population.activity @ self.click_probability), kind="stable")

    def next_shopper(self) -> int:
        """Draw the next shopper; an index into `users`."""
        return int(np.searchsorted(np.cumsum(self.activity)[:-1], self._rng.random(), side="right"))

    def expected_ctr(self, shopper: int, k: int) -> ExpectedCTR:
        """Expected clicks per item of slates of k items that are new to the shopper."""
        is_new = ~self._interacted[shopper]
        probability = self.click_probability[shopper]
        popular = self._popularity_order[is_new[self._popularity_order]][:k]
        available = probability[is_new]
        best = -np.sort(-np.partition(available, max(0, available.size - k))[-k:])
        if best.size == 0:
            return ExpectedCTR(0.0, 0.0, 0.0)
        bias = position_bias(best.size) / best.size
        return ExpectedCTR(float(available.mean() * bias.sum()), float(probability[popular] @ bias), float(best @ bias))

    def simulate_feedback(
        self, shopper: int, impression_id: str, item_ids: Sequence[str]
    ) -> tuple[int, list[dict[str, Any]]]:
        """Simulate the shopper's reaction to a slate: the number of clicks and all events.

        Items of other shops are never clicked.
        """
        rows = np.array([self._item_rows.get(item_id, -1) for item_id in item_ids], np.int64)
        probability = np.where(rows >= 0, self.click_probability[shopper, rows], 0.0)
        clicked_rows = rows[self._rng.random(rows.size) < probability * position_bias(rows.size)]
        events = [self._make_event(shopper, "click", j, impression_id) for j in clicked_rows.tolist()]
        if self._purchase_probability:
            purchased_rows = clicked_rows[self._rng.random(clicked_rows.size) < self._purchase_probability]
            events += [self._make_event(shopper, "purchase", j, impression_id) for j in purchased_rows.tolist()]
        if self._rng.random() < self._search_probability:
            events += self._search(shopper)
        return clicked_rows.size, events

    def _search(self, shopper: int) -> list[dict[str, Any]]:
        """Simulate an organic view of an item that is new to the shopper."""
        cumulative = np.cumsum(np.where(self._interacted[shopper], 0.0, self.click_probability[shopper]))
        if cumulative[-1] <= 0:
            return []
        row = int(np.searchsorted(cumulative, self._rng.random() * cumulative[-1], side="right"))
        return [self._make_event(shopper, "view", row, None)]

    def _make_event(self, shopper: int, kind: str, row: int, impression_id: str | None) -> dict[str, Any]:
        self._interacted[shopper, row] = True
        self._n_events += 1
        event = {
            "event_id": f"e{self._n_events}",
            "type": kind,
            "ts": self._clock.now_ms(),
            "user_id": self.users[shopper],
            "item_id": self.shop.item_ids[row],
        }
        return event | ({} if impression_id is None else {"impression_id": impression_id})
