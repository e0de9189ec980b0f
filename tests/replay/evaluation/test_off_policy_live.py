"""What other policies are worth, estimated from impressions as the live recommender logs them: the truth is known."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from replay.evaluation.off_policy import Estimate, LoggedDecisions, ips, snips
from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.simulator import make_population, make_shop
from serving.pipeline.responses import impression_event
from serving.pipeline.schemas import RecommendationRequest
from stream.config import ServeSettings

NOW = 1_767_225_600_000
DECISIONS, LOGS, TOGETHER = 320, 100, 64


@dataclass(frozen=True, slots=True)
class Decision:
    """The first place of a slate, as it was logged."""

    item: str
    propensity: float
    clicked: bool


class World:
    """A shop whose answers stay as they are, since nothing is learnt from what is logged of strangers."""

    def __init__(self, folder: Path, serve: ServeSettings) -> None:
        rng = np.random.default_rng(1)
        shop = make_shop(60, NOW, rng)
        crowd = replace(
            make_population(40, rng), base_log_odds=-1.5
        )  # much is clicked, so that little has to be logged
        self.loop = ClosedLoop(folder, shop, crowd, NOW, serve)
        self.loop.put_items(shop.records())
        for _ in range(256):
            self.loop.visit(10)
        self.loop.catch_up()
        self._rng = np.random.default_rng(5)
        self._place = {name: j for j, name in enumerate(shop.item_ids)}
        self.worth = dict(
            zip(shop.item_ids, (crowd.activity @ self.loop.simulator.click_probability).tolist(), strict=True)
        )
        pool = self.loop.explorer.refresh_pool(self.loop.replica)
        self.fresh = self.loop.replica.get_item_ids(pool.rows)
        plain = RecommendationRequest(user_id="stranger", k=1, explore=False)
        self.best = self.loop.recommender.recommend(plain, "plain", NOW).response.items[0].item_id

    def log(self) -> Iterator[Decision]:
        """Impressions as they go into the events topic, and whether a shopper of known taste clicked."""
        for begin in range(0, DECISIONS, TOGETHER):
            shoppers = [self.loop.simulator.next_shopper() for _ in range(TOGETHER)]
            asked = [(RecommendationRequest(user_id=f"stranger-{shopper}", k=1), f"r{begin}") for shopper in shoppers]
            asked = [(question, f"{name}-{i}") for i, (question, name) in enumerate(asked)]
            slates = self.loop.recommender.recommend_batch(asked, NOW)
            for shopper, (question, _), slate in zip(shoppers, asked, slates, strict=True):
                self.loop.recommender.record_impression(slate)
                logged = msgspec.json.decode(impression_event(question, slate, NOW))
                item = logged["items"][0]
                chance = self.loop.simulator.click_probability[shopper, self._place[item]]
                yield Decision(item, logged["propensities"][0], bool(self._rng.random() < chance))


def estimated(decisions: list[Decision], policy: dict[str, float]) -> list[Estimate]:
    """By both estimators, what a policy is worth that shows each item with this probability."""
    logged = LoggedDecisions(
        reward=np.array([float(one.clicked) for one in decisions]),
        propensity=np.array([one.propensity for one in decisions]),
        target_propensity=np.array([policy.get(one.item, 0.0) for one in decisions]),
    )
    return [ips(logged), snips(logged)]


# Shares and a floor that leave a hundred decisions' worth in a log: of fewer, means are not yet normal, and no interval
# that is taken to be so holds the truth as often as it says. At the default floor it is 43 for the greatest share.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("over", "policy", "floor", "shares"),
    [("fresh", "thompson", 5e-3, (0.0, 0.25, 0.5)), ("slate", "epsilon", 1e-5, (0.0, 0.1))],
)
def test_the_truth_is_in_the_interval_95_times_of_100(
    tmp_path: Path, over: str, policy: str, floor: float, shares: tuple[float, ...]
) -> None:
    serve = {
        "exploration_rate": 0.5,
        "exploration_scope": over,
        "exploration_budget": 1000.0,
        "policy": policy,
        "exploration_min_probability": floor,
    }
    world = World(tmp_path, ServeSettings.model_validate(serve))
    logs = [list(world.log()) for _ in range(LOGS)]
    world.loop.close()

    assert not world.loop.explorer.has_alarm
    for share in shares:  # of decisions that go to any fresh item, the others to the best
        asked_of = dict.fromkeys(world.fresh, share / len(world.fresh))
        asked_of[world.best] = asked_of.get(world.best, 0.0) + 1 - share
        truth = sum(chance * world.worth[name] for name, chance in asked_of.items())
        for estimates in zip(*(estimated(decisions, asked_of) for decisions in logs), strict=True):
            held = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])

            assert np.mean([estimate.value for estimate in estimates]) == pytest.approx(truth, rel=0.05)
            assert 0.90 <= held <= 0.99
