"""Synthetic events as JSON, as a producer sends them; a seed determines the events."""

import base64
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from stream.clock import DAY_MS

START = 1_767_225_600_000  # ms
SLATE_SIZE = 10
_encode = msgspec.json.Encoder().encode
_EVENT_TYPES = ("view", "view", "view", "click", "click", "cart")


def generate_organic(
    events: int, users: int, items: int, seed: int = 0, types: Sequence[str] = _EVENT_TYPES
) -> list[tuple[bytes, bytes]]:
    """Generate organic (user id, event) records: sessions of ten events, 1,000 users at a time."""
    rng = np.random.default_rng(seed)
    user_rows = _sample_users(events, users, rng)
    item_rows = sample_popular(rng, items, events)
    kinds = rng.integers(0, len(types), events).tolist()
    records = []
    for i, (user, item, kind) in enumerate(zip(user_rows.tolist(), item_rows.tolist(), kinds, strict=True)):
        user_id = f"user-{user}"
        event = {
            "event_id": f"e{seed}-{i}",
            "type": types[kind],
            "ts": START + 3 * i,
            "user_id": user_id,
            "item_id": f"item-{item}",
            "session_id": f"s{user}",
        }
        records.append((user_id.encode(), _encode(event)))
    return records


def generate_slates(
    events: int,
    users: int,
    items: int,
    seed: int = 0,
    slate_size: int = SLATE_SIZE,
    click_every: int = 2,
    n_features: int = 0,
) -> list[tuple[bytes, bytes]]:
    """Generate (user id, event) records: impressions, and clicks on every `click_every`-th one.

    With `n_features` served features per item, an impression is as large as one of the live recommender.
    """
    rng = np.random.default_rng(seed)
    n_impressions = events * click_every // (click_every + 1)
    user_rows = _sample_users(n_impressions, users, rng).tolist()
    item_rows = sample_popular(rng, items, n_impressions * slate_size).reshape(n_impressions, slate_size).tolist()
    clicked_positions = rng.integers(0, slate_size, n_impressions).tolist()
    blocks = [_encode_features(rng, slate_size, n_features) for _ in range(64)] if n_features else []
    records = []
    for i, (user, rows) in enumerate(zip(user_rows, item_rows, strict=True)):
        records.append(_make_impression(f"{seed}-{i}", user, rows, START + 5 * i, blocks[i % 64] if blocks else None))
        if i and i % click_every == click_every - 1:
            records.append(
                _make_click(
                    f"{seed}-{i - 1}", user_rows[i - 1], item_rows[i - 1][clicked_positions[i - 1]], START + 5 * i + 1
                )
            )
    return records


def _encode_features(rng: np.random.Generator, slate_size: int, n_features: int) -> str:
    values = rng.standard_normal((slate_size, n_features)).astype("<f4")
    return f"{n_features}:{base64.b64encode(values.tobytes()).decode()}"


def _make_impression(name: str, user: int, rows: Sequence[int], ts: int, features: str | None) -> tuple[bytes, bytes]:
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


def _make_click(name: str, user: int, item: int, ts: int) -> tuple[bytes, bytes]:
    event = {
        "event_id": f"c{name}",
        "type": "click",
        "ts": ts,
        "user_id": f"user-{user}",
        "item_id": f"item-{item}",
        "impression_id": f"i{name}",
    }
    return f"user-{user}".encode(), _encode(event)


def generate_catalog(items: int) -> Iterator[tuple[bytes, bytes]]:
    """Generate (item id, item) records: a title, one of 200 categories and a price."""
    for row in range(items):
        item_id = f"item-{row}"
        item = {
            "item_id": item_id,
            "title": f"Item {row}",
            "categories": [f"category-{row % 200}"],
            "price": 1.0 + row % 97,
            "created_ts": START - DAY_MS,
        }
        yield item_id.encode(), _encode(item)


def sample_popular(rng: np.random.Generator, items: int, n: int) -> np.ndarray:
    """Sample n items; their frequency is about proportional to 1 / rank."""
    return np.minimum(items ** rng.random(n) - 1, items - 1).astype(np.int64)


def _sample_users(events: int, users: int, rng: np.random.Generator) -> np.ndarray:
    """Sample users: a thousand concurrent slots, each with sessions of ten events by one user."""
    n_slots, visit_length = 1000, 10
    rounds = -(-events // (n_slots * visit_length))
    order = rng.permutation(np.resize(np.arange(users), rounds * n_slots)).reshape(rounds, n_slots)
    return np.concatenate([rng.permutation(np.repeat(row, visit_length)) for row in order])[:events]
