"""Generated events of a few people in a few partitions, with all that goes wrong on the way."""

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stream.ids import partition_of
from stream.logs import Record

START = 1_767_225_600_000  # ms
_ACTIONS = ("view", "click", "click", "like", "dislike", "cart", "purchase", "dwell", "rating")


@dataclass
class Shoppers:
    """Makes records of the events topic by partition; the same seed makes the same ones."""

    seed: int
    partitions: int = 3
    people: int = 24
    items: int = 40
    ts: int = START
    made: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def records(self, count: int) -> dict[int, list[Record]]:
        """About one record in ten is a repeat, a refused one, or an array."""
        records: dict[int, list[Record]] = {partition: [] for partition in range(self.partitions)}
        for _ in range(count):
            user, value = self._record()
            records[partition_of(user, self.partitions)].append((user.encode(), value))
        return records

    def _record(self) -> tuple[str, bytes]:
        draw = self.chance.random()
        if draw < 0.06 and self.made:
            again = self.chance.choice(self.made[-60:])
            return again["user_id"], msgspec.json.encode(again)
        user = f"u{self.chance.randrange(self.people)}"
        if draw < 0.1:
            return user, self._bad()
        if draw < 0.14:
            several: list[Any] = [self._event(user) for _ in range(3)]
            if self.chance.random() < 0.5:
                several.insert(1, {"type": "click", "event_id": "", "user_id": user, "item_id": "i1", "ts": self.ts})
            return user, msgspec.json.encode(several)
        return user, msgspec.json.encode(self._event(user))

    def _bad(self) -> bytes:
        return self.chance.choice(
            (
                b"no json",
                b'{"type":"wink","event_id":"x","ts":1,"user_id":"u"}',
                b'{"type":"click","event_id":"x","ts":1,"user_id":"u"}',
                b"[1, 2]",
                b"[",
            )
        )

    def _event(self, user: str) -> dict[str, Any]:
        self.ts += self.chance.randrange(4_000)
        ts = self.ts - self.chance.randrange(3_000)
        event: dict[str, Any] = {"event_id": f"e{len(self.made)}", "ts": ts, "user_id": user}
        shown = [one for one in self.made[-80:] if one["type"] == "impression" and one["user_id"] == user]
        if self.chance.random() < 0.35:
            items = self.chance.sample(range(self.items), self.chance.randrange(1, 5))
            event |= {"type": "impression", "impression_id": f"r{len(self.made)}", "items": [f"i{n}" for n in items]}
            event |= {"propensities": [0.5] * len(items), "surface": "home", "context": {"device": "mobile"}}
            if shown and self.chance.random() < 0.1:
                event["impression_id"] = shown[-1]["impression_id"]
        else:
            event |= {"type": self.chance.choice(_ACTIONS), "item_id": f"i{self.chance.randrange(self.items)}"}
            if shown and self.chance.random() < 0.7:
                chosen = self.chance.choice(shown)
                event |= {"impression_id": chosen["impression_id"], "item_id": self.chance.choice(chosen["items"])}
        self.made.append(event)
        return event
