"""The pool of fresh items in the live loop: truth is known, lamps are liked and chairs are not."""

from pathlib import Path

import pytest

from online_models.bandits.exploration_budget import Budget
from online_models.bandits.warm_start import WarmStart
from serving.exploration.fresh_items import Pool, pool_of
from tests.support.serving_loop import Loop, event, shown

LAMPS, CHAIRS = [f"lamp{n}" for n in range(3)], [f"chair{n}" for n in range(3)]


def pool(loop: Loop) -> Pool:
    return pool_of(loop.service.replica, Budget(), WarmStart())


def around(loop: Loop) -> dict[str, float]:
    """What fresh items lie around, by name."""
    found = pool(loop)
    names = loop.service.replica.names_of(found.rows)
    return dict(zip(names, found.around.means.tolist(), strict=True))


def teach(loop: Loop, times: int) -> None:
    """Everybody is shown all, and takes a lamp."""
    for number in range(times):
        user, name = f"u{number}", f"r{number}-{times}"
        loop.send(
            shown([*LAMPS, *CHAIRS], user_id=user, impression_id=name),
            event(user_id=user, item_id=LAMPS[number % 3], impression_id=name),
        )
    loop.settle()


def test_a_new_item_starts_from_what_items_of_its_category_have_earned(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        loop.put(*LAMPS, categories=["lamps"], created_ts=1)
        loop.put(*CHAIRS, categories=["chairs"], created_ts=1)
        teach(loop, 40)
        loop.put("new lamp", categories=["lamps"], created_ts=1)
        loop.put("new chair", categories=["chairs"], created_ts=1)
        loop.put("new thing", created_ts=1)
        found, rate = around(loop), pool(loop).rate

    assert found["new lamp"] > found["new thing"] > found["new chair"]
    assert found["new thing"] == pytest.approx(rate)


def test_another_replica_of_the_same_state_has_the_same_pool(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        loop.put(*LAMPS, categories=["lamps", "oak"], price=9.0, created_ts=1)
        loop.put(*CHAIRS, categories=["chairs", "oak"], price=19.0, created_ts=1)
        for times in (5, 3, 8):
            teach(loop, times)
        loop.put("new lamp", categories=["lamps", "oak"], price=12.0, created_ts=1)
        loop.learn.save()
        loop.learn._keeper.wait()
        kept = pool(loop)
        loop.restart_serve()
        loaded = pool(loop)

    assert loaded.version == kept.version
    assert loaded.rows.tolist() == kept.rows.tolist()
    assert loaded.around.means.tolist() == kept.around.means.tolist()
    assert loaded.around.spreads.tolist() == kept.around.spreads.tolist()
