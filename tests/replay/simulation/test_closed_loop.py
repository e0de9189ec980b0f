"""The closed loop counts all impressions and clicks, and a seed determines the run."""

from pathlib import Path

import numpy as np

from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.simulator import make_population, make_shop
from stream.config import ServeSettings
from stream.records.batches import EventType

NOW = 1_767_225_600_000
VISITS = 320


def run_loop(folder: Path, exploration_rate: float) -> tuple[ClosedLoop, list[str], int]:
    """Run some visits; return the loop, the shown items and the number of clicks."""
    rng = np.random.default_rng(1)
    shop = make_shop(300, NOW, rng)
    serve = ServeSettings(exploration_rate=exploration_rate, seed=1)
    loop = ClosedLoop(folder, shop, make_population(40, rng), NOW, serve, search_probability=0.0)
    loop.put_items(shop.records())
    visits = [loop.visit(10) for _ in range(VISITS)]
    loop.system.clock.advance(120.0)
    loop.catch_up()
    loop.close()
    shown = [item.item_id for visit in visits for item in visit.slate.response.items]
    return loop, shown, sum(len(visit.clicked_positions) for visit in visits)


def test_replica_counts_all_impressions_and_clicks(tmp_path: Path) -> None:
    loop, shown, clicks = run_loop(tmp_path, exploration_rate=0.1)

    assert len(shown) == 10 * VISITS
    assert loop.replica.event_totals[EventType.impression] == len(shown)
    assert loop.replica.event_totals[EventType.click] == clicks > 0
    assert not loop.explorer.has_alarm


def test_exploration_shows_more_items(tmp_path: Path) -> None:
    _, off, _ = run_loop(tmp_path / "off", exploration_rate=0.0)
    _, on, _ = run_loop(tmp_path / "on", exploration_rate=0.1)

    assert len(set(off)) < len(set(on))


def test_seed_determines_the_run(tmp_path: Path) -> None:
    _, first, _ = run_loop(tmp_path / "first", exploration_rate=0.1)
    _, second, _ = run_loop(tmp_path / "second", exploration_rate=0.1)

    assert first == second
