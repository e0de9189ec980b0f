"""Pool of fresh items in the live loop, where users like lamps and dislike chairs."""

from pathlib import Path

import pytest

from online_models.bandits.exploration_budget import Budget
from online_models.bandits.warm_start import WarmStart
from serving.exploration.fresh_items import FreshItemPool, build_pool
from tests.support.serving_loop import LiveLoop, make_event, make_impression

LAMPS, CHAIRS = [f"lamp{n}" for n in range(3)], [f"chair{n}" for n in range(3)]


def build_loop_pool(loop: LiveLoop) -> FreshItemPool:
    return build_pool(loop.service.replica, Budget(), WarmStart())


def find_prior_means(loop: LiveLoop) -> dict[str, float]:
    """Prior means of fresh items from their neighbors, by item id."""
    pool = build_loop_pool(loop)
    item_ids = loop.service.replica.get_item_ids(pool.rows)
    return dict(zip(item_ids, pool.neighbor_prior.means.tolist(), strict=True))


def train(loop: LiveLoop, times: int) -> None:
    """Show all items to this many users, each of whom clicks a lamp."""
    for number in range(times):
        user, impression_id = f"u{number}", f"r{number}-{times}"
        loop.send_events(
            make_impression([*LAMPS, *CHAIRS], user_id=user, impression_id=impression_id),
            make_event(user_id=user, item_id=LAMPS[number % 3], impression_id=impression_id),
        )
    loop.run_until_idle()


def test_new_item_starts_from_the_clicks_of_its_category(tmp_path: Path) -> None:
    with LiveLoop(tmp_path) as loop:
        loop.put_items(*LAMPS, categories=["lamps"], created_ts=1)
        loop.put_items(*CHAIRS, categories=["chairs"], created_ts=1)
        train(loop, 40)
        loop.put_items("new lamp", categories=["lamps"], created_ts=1)
        loop.put_items("new chair", categories=["chairs"], created_ts=1)
        loop.put_items("new thing", created_ts=1)
        prior_means, rate = find_prior_means(loop), build_loop_pool(loop).rate

    assert prior_means["new lamp"] > prior_means["new thing"] > prior_means["new chair"]
    assert prior_means["new thing"] == pytest.approx(rate)


def test_reloaded_replica_has_the_same_pool(tmp_path: Path) -> None:
    with LiveLoop(tmp_path) as loop:
        loop.put_items(*LAMPS, categories=["lamps", "oak"], price=9.0, created_ts=1)
        loop.put_items(*CHAIRS, categories=["chairs", "oak"], price=19.0, created_ts=1)
        for times in (5, 3, 8):
            train(loop, times)
        loop.put_items("new lamp", categories=["lamps", "oak"], price=12.0, created_ts=1)
        loop.learn_worker.save()
        loop.learn_worker.wait_for_checkpoint()
        live_pool = build_loop_pool(loop)
        loop.restart_serve()
        loaded_pool = build_loop_pool(loop)

    assert loaded_pool.revision == live_pool.revision
    assert loaded_pool.rows.tolist() == live_pool.rows.tolist()
    assert loaded_pool.neighbor_prior.means.tolist() == live_pool.neighbor_prior.means.tolist()
    assert loaded_pool.neighbor_prior.stds.tolist() == live_pool.neighbor_prior.stds.tolist()
