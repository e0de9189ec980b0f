"""The same log trains an equally good model, however it is divided into micro-batches."""

import random
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from replay.evaluation.baselines.item_index import ItemIndex, get_item_keys, positive_rows
from replay.evaluation.baselines.popularity import PopularityBaseline
from replay.evaluation.baselines.ranking import make_queries
from replay.evaluation.event_files import EventFiles
from replay.evaluation.live_pipeline import Pipeline
from replay.files.options import ReadOptions
from stream.clock import ManualClock
from stream.config import EventsSettings, Settings, StreamSettings

_START = 1_700_000_000_000
_DATA = Path(__file__).parents[4] / "shared" / "data"
_LARGEST = 8192
_HELD_OUT = 400


def generate_clicks(users: int) -> list[bytes]:
    """Clicks of users who mostly like one of five groups of items; some items are more popular."""
    rng, rows = random.Random(9), list[dict[str, Any]]()
    popularity = [1 / (1 + n // 5) for n in range(200)]
    for user in range(users):
        ts = _START + user * 60_000
        drawn = [n for n in rng.choices(range(200), popularity, k=60) if n % 5 == user % 5 or rng.random() < 0.05]
        for k, n in enumerate(dict.fromkeys(drawn[:10])):
            event = {"event_id": f"{user}-{n}", "type": "click", "ts": ts + k * 3000}
            rows.append(event | {"user_id": f"p{user}", "item_id": f"i{n}"})
    return [msgspec.json.encode(row) for row in sorted(rows, key=lambda row: row["ts"])]


class HitRate:
    """Hit rate at 10 of the live ranking and of popularity, over actions that train neither."""

    def __init__(self) -> None:
        settings = Settings(events=EventsSettings(max_age=0), stream=StreamSettings(batch=_LARGEST))
        self._pipeline = Pipeline(settings, 10, ManualClock(_START + 10**12))
        self._items = ItemIndex()
        self._popularity = PopularityBaseline(self._items, 10)
        self._interacted = defaultdict[int, set[int]](set)

    def train(self, lines: Sequence[bytes]) -> None:
        batch = self._pipeline.stream(lines)
        assert batch
        self._items.add(batch.lists.item)
        self._pipeline.learn(batch)
        self._popularity.learn(batch)
        for user, item in zip(batch.queries.user.tolist(), batch.lists.item.tolist(), strict=True):
            self._interacted[user].add(item)

    def measure(self, lines: Sequence[bytes]) -> tuple[float, float]:
        batch = self._pipeline.stream(lines)
        assert batch
        rows = positive_rows(batch)
        targets, queried, excluded = get_item_keys(batch, rows), list[int](), list[list[int]]()
        for i, target in enumerate(targets.tolist()):
            interacted = self._interacted[int(batch.queries.user[rows[i]])]
            if target not in interacted:
                queried.append(i)
                excluded.append(sorted(interacted))
            interacted.add(target)
        queries = make_queries(rows[queried], targets[queried], excluded)
        results = (model.rank_targets(batch, queries) for model in (self._pipeline, self._popularity))
        live, popularity = (float((result.rank < 10).mean()) for result in results)
        return live, popularity


def measure_hit_rates(lines: Sequence[bytes], n_trained: int, batch: int) -> tuple[float, float]:
    """Hit rates on the actions after the first `n_trained`, which train in micro-batches."""
    counter = HitRate()
    for first in range(0, n_trained, batch):
        counter.train(lines[first : min(n_trained, first + batch)])
    return counter.measure(lines[n_trained : n_trained + _HELD_OUT])


@cache
def read_recorded(name: str) -> list[bytes]:
    files = EventFiles([str(_DATA / name / "events.jsonl.gz")], ReadOptions())
    return list(islice(files.read_lines(lambda done, total: None), 4000))


@pytest.mark.parametrize("n_trained", [1000, 2000])
def test_small_shop_is_learned_equally_from_bulk_and_live(n_trained: int) -> None:
    lines = generate_clicks(400)

    rates = {batch: measure_hit_rates(lines, n_trained, batch) for batch in (5, 64, _LARGEST)}

    live = [rate for rate, _ in rates.values()]
    assert max(live) - min(live) < 0.03
    assert min(live) > rates[64][1]


@pytest.mark.skipif(not _DATA.exists(), reason="the recorded logs are not on this machine")
@pytest.mark.parametrize("n_trained", [1000, 3000])
@pytest.mark.parametrize("name", ["movietweetings", "yoochoose-7d"])
def test_recorded_log_is_learned_equally_from_bulk_and_live(name: str, n_trained: int) -> None:
    lines = read_recorded(name)

    live, bulk = (measure_hit_rates(lines, n_trained, batch)[0] for batch in (16, _LARGEST))

    assert np.isclose(live, bulk, atol=0.02)
