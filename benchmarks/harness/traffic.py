"""Events made up for measuring: JSON as a producer would send it, the same for the same seed."""

import base64
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

START = 1_767_225_600_000  # ms
SLATE = 10
_encode = msgspec.json.Encoder().encode
_KINDS = ("view", "view", "view", "click", "click", "cart")


def organic(events: int, users: int, items: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """(user id, event) of people who look around: sessions of ten events, a thousand people at a time."""
    rng = np.random.default_rng(seed)
    people = _people(events, users, rng)
    chosen = popular(rng, items, events)
    kinds = rng.integers(0, len(_KINDS), events).tolist()
    records = []
    for i, (user, item, kind) in enumerate(zip(people.tolist(), chosen.tolist(), kinds, strict=True)):
        name = f"user-{user}"
        event = {
            "event_id": f"e{seed}-{i}",
            "type": _KINDS[kind],
            "ts": START + 3 * i,
            "user_id": name,
            "item_id": f"item-{item}",
            "session_id": f"s{user}",
        }
        records.append((name.encode(), _encode(event)))
    return records


def slates(
    events: int, users: int, items: int, seed: int = 0, places: int = SLATE, every: int = 2, features: int = 0
) -> list[tuple[bytes, bytes]]:
    """(user id, event): impressions of so many items, and a click on `every` so many-th of them.

    With `features` of each item as they were served, an impression is as large as this code's own.
    """
    rng = np.random.default_rng(seed)
    shown = events * every // (every + 1)
    people = _people(shown, users, rng).tolist()
    chosen = popular(rng, items, shown * places).reshape(shown, places).tolist()
    taken = rng.integers(0, places, shown).tolist()
    blocks = [_features(rng, places, features) for _ in range(64)] if features else []
    records = []
    for i, (user, rows) in enumerate(zip(people, chosen, strict=True)):
        records.append(_impression(f"{seed}-{i}", user, rows, START + 5 * i, blocks[i % 64] if blocks else None))
        if i and i % every == every - 1:
            records.append(_click(f"{seed}-{i - 1}", people[i - 1], chosen[i - 1][taken[i - 1]], START + 5 * i + 1))
    return records


def _features(rng: np.random.Generator, places: int, features: int) -> str:
    values = rng.standard_normal((places, features)).astype("<f4")
    return f"{features}:{base64.b64encode(values.tobytes()).decode()}"


def _impression(name: str, user: int, rows: Sequence[int], ts: int, features: str | None) -> tuple[bytes, bytes]:
    event = {
        "event_id": f"i{name}",
        "type": "impression",
        "ts": ts,
        "user_id": f"user-{user}",
        "impression_id": f"i{name}",
        "surface": "home",
        "items": [f"item-{row}" for row in rows],
        "propensities": [1.0] * len(rows),
        "model_version": "000001-000000042",
        "context": {"device": "mobile"},
    }
    return f"user-{user}".encode(), _encode(event | ({"features": features} if features else {}))


def _click(name: str, user: int, item: int, ts: int) -> tuple[bytes, bytes]:
    event = {
        "event_id": f"c{name}",
        "type": "click",
        "ts": ts,
        "user_id": f"user-{user}",
        "item_id": f"item-{item}",
        "impression_id": f"i{name}",
    }
    return f"user-{user}".encode(), _encode(event)


def catalogue(items: int) -> Iterator[tuple[bytes, bytes]]:
    """(item id, item): a title, one of 200 categories, a price."""
    for row in range(items):
        name = f"item-{row}"
        item = {
            "item_id": name,
            "title": f"Item {row}",
            "categories": [f"category-{row % 200}"],
            "price": 1.0 + row % 97,
            "created_ts": START - 86_400_000,
        }
        yield name.encode(), _encode(item)


def popular(rng: np.random.Generator, items: int, n: int) -> np.ndarray:
    """n items, the first ones most often, as popularity falls in a shop: about as 1 / rank."""
    return np.minimum(items ** rng.random(n) - 1, items - 1).astype(np.int64)


def _people(events: int, users: int, rng: np.random.Generator) -> np.ndarray:
    """Who acts: a thousand places, in each of which one person acts ten times and then leaves to another."""
    places, visit = 1000, 10
    rounds = -(-events // (places * visit))
    who = rng.permutation(np.resize(np.arange(users), rounds * places)).reshape(rounds, places)
    return np.concatenate([rng.permutation(np.repeat(row, visit)) for row in who])[:events]
