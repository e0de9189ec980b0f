"""Generator of events in several partitions, with duplicates and invalid records."""

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stream.ids import partition_for_id
from stream.logs import Record

START = 1_767_225_600_000  # ms
_ACTIONS = (
    "view",
    "click",
    "click",
    "like",
    "dislike",
    "cart",
    "purchase",
    "dwell",
    "rating",
    "return",
    "unlike",
    "remove_from_cart",
    "retract",
)


@dataclass
class EventGenerator:
    """Generate records of the events topic by partition; the same seed gives the same records."""

    seed: int
    partitions: int = 3
    misplaced_ratio: float = 0.02  # share of records in another partition than that of their user
    users: int = 24
    items: int = 40
    ts: int = START
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def generate_records(self, count: int) -> dict[int, list[Record]]:
        """Generate records; one in seven is a duplicate, invalid, misplaced, or an array of events."""
        records: dict[int, list[Record]] = {partition: [] for partition in range(self.partitions)}
        for _ in range(count):
            user, value = self._make_record()
            shift = int(self.rng.random() < self.misplaced_ratio)
            records[(partition_for_id(user, self.partitions) + shift) % self.partitions].append((user.encode(), value))
        return records

    def _make_record(self) -> tuple[str, bytes]:
        draw = self.rng.random()
        if draw < 0.06 and self.events:
            duplicate = self.rng.choice(self.events[-60:])
            return duplicate["user_id"], msgspec.json.encode(duplicate)
        if draw < 0.08 and self.events:
            conflict = self.rng.choice(self.events[-60:])
            return conflict["user_id"], msgspec.json.encode(conflict | {"ts": conflict["ts"] + 1})
        user = f"u{self.rng.randrange(self.users)}"
        if draw < 0.1:
            return user, self._make_invalid_value()
        if draw < 0.14:
            batch: list[Any] = [self._make_event(user) for _ in range(3)]
            if self.rng.random() < 0.5:
                batch.insert(1, {"type": "click", "event_id": "", "user_id": user, "item_id": "i1", "ts": self.ts})
            return user, msgspec.json.encode(batch)
        return user, msgspec.json.encode(self._make_event(user))

    def _make_invalid_value(self) -> bytes:
        return self.rng.choice(
            (
                b"no json",
                b'{"type":"wink","event_id":"x","ts":1,"user_id":"u"}',
                b'{"type":"click","event_id":"x","ts":1,"user_id":"u"}',
                b"[1, 2]",
                b"[",
            )
        )

    def _make_event(self, user: str) -> dict[str, Any]:
        self.ts += self.rng.randrange(4_000)
        ts = self.ts - self.rng.randrange(3_000)
        event: dict[str, Any] = {"event_id": f"e{len(self.events)}", "ts": ts, "user_id": user}
        impressions = [
            previous
            for previous in self.events[-80:]
            if previous["type"] == "impression" and previous["user_id"] == user
        ]
        if self.rng.random() < 0.35:
            items = self.rng.sample(range(self.items), self.rng.randrange(1, 5))
            event |= {"type": "impression", "impression_id": f"r{len(self.events)}", "items": [f"i{n}" for n in items]}
            event |= {"propensities": [0.5] * len(items), "surface": "home", "context": {"device": "mobile"}}
            if impressions and self.rng.random() < 0.1:
                event["impression_id"] = impressions[-1]["impression_id"]
        else:
            event |= {"type": self.rng.choice(_ACTIONS), "item_id": f"i{self.rng.randrange(self.items)}"}
            if impressions and self.rng.random() < 0.7:
                impression = self.rng.choice(impressions)
                event |= {"impression_id": impression["impression_id"], "item_id": self.rng.choice(impression["items"])}
            if event["type"] == "retract":
                event["retracted_id"] = f"e{self.rng.randrange(len(self.events) + 5)}"
            if event["type"] == "rating":
                event["value"] = 4.0
        self.events.append(event)
        return event
