"""Simulated shoppers before the live processes: what is shown comes back as what is learnt."""

from pathlib import Path

import numpy as np

from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.simulator import make_population, make_shop
from stream.config import ServeSettings
from stream.records.batches import EventType

NOW = 1_767_225_600_000
VISITS = 320


def played(folder: Path, explore: float) -> tuple[ClosedLoop, list[str], int]:
    """A loop after some visits, with the items that were shown, and the clicks."""
    rng = np.random.default_rng(1)
    shop = make_shop(300, NOW, rng)
    loop = ClosedLoop(
        folder,
        shop,
        make_population(40, rng),
        NOW,
        ServeSettings(exploration_rate=explore, seed=1),
        search_probability=0.0,
    )
    loop.put_items(shop.records())
    visits = [loop.visit(10) for _ in range(VISITS)]
    loop.system.clock.advance(120.0)
    loop.catch_up()
    loop.close()
    shown = [item.item_id for visit in visits for item in visit.slate.response.items]
    return loop, shown, sum(len(visit.clicked_positions) for visit in visits)


def test_what_was_shown_and_clicked_is_what_the_answers_know(tmp_path: Path) -> None:
    loop, shown, clicks = played(tmp_path, explore=0.1)

    assert len(shown) == 10 * VISITS
    assert loop.replica.event_totals[EventType.impression] == len(shown)
    assert loop.replica.event_totals[EventType.click] == clicks > 0
    assert not loop.explorer.has_alarm


def test_without_exploration_fewer_items_are_ever_shown(tmp_path: Path) -> None:
    _, off, _ = played(tmp_path / "off", explore=0.0)
    _, on, _ = played(tmp_path / "on", explore=0.1)

    assert len(set(off)) < len(set(on))


def test_the_same_seeds_are_the_same_story(tmp_path: Path) -> None:
    _, one, _ = played(tmp_path / "one", explore=0.1)
    _, other, _ = played(tmp_path / "other", explore=0.1)

    assert one == other
