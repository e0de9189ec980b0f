"""A shop and a crowd of shoppers whose truth is known: what each likes, how likely each clicks, which slate is best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.clock import Clock

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
    "art": "sketchbook, watercolours, easel, clay, brush set, charcoal, linocut kit, picture frame",
    "tools": "hammer, cordless drill, spirit level, hand saw, toolbox, tape measure, chisel set, vice",
    "bath": "towel, bath mat, soap dish, robe, hair brush, laundry basket, mirror, shower curtain",
    "tech": "keyboard, webcam, power bank, speaker, e-reader, router, dash cam, smart plug",
}
CATEGORIES = tuple(_WORDS)
_MAKES = (
    "Walnut", "Copper", "Nordic", "Vintage", "Folding", "Striped", "Compact", "Linen", "Cobalt", "Rustic",
    "Featherlight", "Classic", "Bamboo", "Midnight", "Coral", "Enamel", "Hand-made", "Everyday", "Alpine",
    "Velvet", "Mustard", "Slate", "Quiet", "Sunday",
)  # fmt: skip
_STYLES = 6
_DAY_MS = 86_400_000
_LOOK = 0.3  # the lower place p, the fewer people look: (1 + p) ** -_LOOK


@dataclass(frozen=True)
class Shop:
    """The items, with what nobody is told of them."""

    names: tuple[str, ...]
    titles: tuple[str, ...]
    category: np.ndarray  # (m,) int, place in CATEGORIES
    price: np.ndarray  # (m,) float64
    created: np.ndarray  # (m,) int64, ms
    quality: np.ndarray  # (m,) float64, hidden
    style: np.ndarray  # (m, s) float64, hidden: only who likes it with what tells of it

    def records(self) -> list[dict[str, Any]]:
        """The catalogue as a shop would send it."""
        columns = zip(self.names, self.titles, self.category, self.price.tolist(), self.created.tolist(), strict=True)
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
class Crowd:
    """The shoppers' tastes. A world that drifts is another crowd from some time on."""

    taste: np.ndarray  # (n, categories) float64
    style: np.ndarray  # (n, s) float64
    activity: np.ndarray  # (n,) float64, share of all requests, sums to 1
    base: float = -4.2  # how likely a click is that nothing speaks for: log-odds

    def chances(self, shop: Shop) -> np.ndarray:
        """Probability that a shopper who looks at an item clicks it, (n, m) float64."""
        appeal = self.base + self.taste[:, shop.category] + self.style @ shop.style.T + shop.quality
        chance: np.ndarray = 1 / (1 + np.exp(-appeal))
        return chance


@dataclass(frozen=True, slots=True)
class Expected:
    """Click-through per place that slates would earn from one shopper now, by the truth."""

    random: float
    popular: float  # of the items that the whole crowd likes best, known in hindsight
    best: float  # of the items that this shopper likes best


def looks(k: int) -> np.ndarray:
    """Probability that a shopper looks at a place of a slate, (k,) float64."""
    look: np.ndarray = (1.0 + np.arange(k)) ** -_LOOK
    return look


def make_shop(items: int, now: int, rng: np.random.Generator) -> Shop:
    """Items made over the year before `now`, ms."""
    if items < 1:
        raise ValueError(f"a shop needs at least one item, got {items}")
    category = rng.integers(len(CATEGORIES), size=items)
    return Shop(
        names=tuple(f"i{j + 1}" for j in range(items)),
        titles=_titles(category, rng),
        category=category,
        price=np.round(np.exp(rng.normal(3.2, 0.8, items)), 2),
        created=now - rng.integers(365 * _DAY_MS, size=items),
        quality=rng.normal(0.0, 0.4, items),
        style=rng.normal(0.0, 1.0, (items, _STYLES)) / np.sqrt(_STYLES),
    )


def make_crowd(shoppers: int, rng: np.random.Generator, appeal: float = 0.0) -> Crowd:
    """Shoppers who each like two or three categories and have a style; a few come often, most seldom.

    `appeal`: standard deviation, in log-odds, of how much a category is liked by all of them alike.
    """
    if shoppers < 1:
        raise ValueError(f"a crowd needs at least one shopper, got {shoppers}")
    order = np.argsort(rng.random((shoppers, len(CATEGORIES))), axis=1)
    liked = order < rng.integers(2, 4, (shoppers, 1))
    activity = rng.lognormal(0.0, 0.6, shoppers)
    taste = np.where(liked, rng.normal(2.5, 0.4, order.shape), rng.normal(0.0, 0.2, order.shape))
    style = rng.normal(0.0, 0.5, (shoppers, _STYLES))
    if appeal:
        taste = taste + rng.normal(0.0, appeal, len(CATEGORIES))
    return Crowd(taste, style, activity / activity.sum())


def _titles(category: np.ndarray, rng: np.random.Generator) -> tuple[str, ...]:
    """Titles that differ as long as there are words for it."""
    titles = []
    used = dict.fromkeys(range(len(CATEGORIES)), 0)
    order = rng.permutation(len(_MAKES) * 8)
    for c in category.tolist():
        at = int(order[used[c] % order.size])
        edition = used[c] // order.size
        title = f"{_MAKES[at // 8]} {_WORDS[CATEGORIES[c]].split(', ')[at % 8]}"
        titles.append(f"{title} no. {edition + 1}" if edition else title)
        used[c] += 1
    return tuple(titles)


class Simulator:
    """Shoppers who ask, click by their true chance, search by themselves, and remember what they have met."""

    def __init__(
        self,
        shop: Shop,
        crowd: Crowd,
        clock: Clock,
        rng: np.random.Generator,
        searching: float = 0.1,
        buying: float = 0.0,
    ) -> None:
        self.shop = shop
        self.users = tuple(f"u{i + 1}" for i in range(crowd.activity.size))
        self._clock = clock
        self._rng = rng
        self._searching = searching  # probability that an answer is followed by a search
        self._buying = buying  # probability that what was clicked is bought
        self._place = {name: j for j, name in enumerate(shop.names)}
        self._met = np.zeros((len(self.users), len(shop.names)), np.bool_)
        self._events = 0
        self.become(crowd)

    @property
    def met(self) -> np.ndarray:
        """What each has clicked or looked up, (shoppers, items) bool."""
        return self._met

    def become(self, crowd: Crowd) -> None:
        """From now on the shoppers are these."""
        self.crowd = crowd
        self.activity = crowd.activity
        self.chance = crowd.chances(self.shop)  # (shoppers, items) float64: that who looks at an item clicks it
        self._by_popularity = np.argsort(-(crowd.activity @ self.chance), kind="stable")

    def next_shopper(self) -> int:
        """Who asks next: their place in `users`."""
        return int(np.searchsorted(np.cumsum(self.activity)[:-1], self._rng.random(), side="right"))

    def expected(self, shopper: int, k: int) -> Expected:
        """What slates of k items that the shopper has not met would earn."""
        unmet = ~self._met[shopper]
        chance = self.chance[shopper]
        popular = self._by_popularity[unmet[self._by_popularity]][:k]
        open_to = chance[unmet]
        best = -np.sort(-np.partition(open_to, max(0, open_to.size - k))[-k:])
        if best.size == 0:
            return Expected(0.0, 0.0, 0.0)
        look = looks(best.size) / best.size
        return Expected(float(open_to.mean() * look.sum()), float(chance[popular] @ look), float(best @ look))

    def react(self, shopper: int, impression: str, items: Sequence[str]) -> tuple[int, list[dict[str, Any]]]:
        """How many of the shown items the shopper clicks, and the events that tell of it, and of what they search.

        What is not of this shop, since somebody else put it into the catalogue, leaves everyone cold.
        """
        shown = np.array([self._place.get(item, -1) for item in items], np.int64)
        chance = np.where(shown >= 0, self.chance[shopper, shown], 0.0)
        clicked = shown[self._rng.random(shown.size) < chance * looks(shown.size)]
        events = [self._act(shopper, "click", j, impression) for j in clicked.tolist()]
        if self._buying:
            bought = clicked[self._rng.random(clicked.size) < self._buying]
            events += [self._act(shopper, "purchase", j, impression) for j in bought.tolist()]
        if self._rng.random() < self._searching:
            events += self._search(shopper)
        return clicked.size, events

    def _search(self, shopper: int) -> list[dict[str, Any]]:
        """A view of something that the shopper likes and has not met: nobody recommended it."""
        wish = np.cumsum(np.where(self._met[shopper], 0.0, self.chance[shopper]))
        if wish[-1] <= 0:
            return []
        return [
            self._act(shopper, "view", int(np.searchsorted(wish, self._rng.random() * wish[-1], side="right")), None)
        ]

    def _act(self, shopper: int, kind: str, item: int, impression: str | None) -> dict[str, Any]:
        self._met[shopper, item] = True
        self._events += 1
        event = {
            "event_id": f"e{self._events}",
            "type": kind,
            "ts": self._clock.now_ms(),
            "user_id": self.users[shopper],
            "item_id": self.shop.names[item],
        }
        return event | ({} if impression is None else {"impression_id": impression})
