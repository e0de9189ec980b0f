"""Off-policy estimates from live impressions agree with known policy values."""

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
DECISIONS, LOGS, BATCH = 320, 100, 64


@dataclass(frozen=True, slots=True)
class Decision:
    """The logged first position of a slate."""

    item: str
    propensity: float
    is_clicked: bool


class World:
    """A shop whose model stays fixed: it does not train on the logged decisions."""

    def __init__(self, folder: Path, serve: ServeSettings) -> None:
        rng = np.random.default_rng(1)
        shop = make_shop(60, NOW, rng)
        # Frequent clicks keep the logs short.
        population = replace(make_population(40, rng), base_log_odds=-1.5)
        self.loop = ClosedLoop(folder, shop, population, NOW, serve)
        self.loop.put_items(shop.records())
        for _ in range(256):
            self.loop.visit(10)
        self.loop.catch_up()
        self._rng = np.random.default_rng(5)
        self._item_rows = {name: j for j, name in enumerate(shop.item_ids)}
        click_rates = population.activity @ self.loop.simulator.click_probability
        self.item_values = dict(zip(shop.item_ids, click_rates.tolist(), strict=True))
        pool = self.loop.explorer.refresh_pool(self.loop.replica)
        self.cold_items = self.loop.replica.get_item_ids(pool.rows)
        request = RecommendationRequest(user_id="stranger", k=1, explore=False)
        self.best_item = self.loop.recommender.recommend(request, "best", NOW).response.items[0].item_id

    def log(self) -> Iterator[Decision]:
        """Log impressions of random shoppers with simulated clicks."""
        for begin in range(0, DECISIONS, BATCH):
            shoppers = [self.loop.simulator.next_shopper() for _ in range(BATCH)]
            requests = [
                (RecommendationRequest(user_id=f"stranger-{shopper}", k=1), f"r{begin}-{i}")
                for i, shopper in enumerate(shoppers)
            ]
            slates = self.loop.recommender.recommend_batch(requests, NOW)
            for shopper, (request, _), slate in zip(shoppers, requests, slates, strict=True):
                self.loop.recommender.record_impression(slate)
                logged = msgspec.json.decode(impression_event(request, slate, NOW))
                item = logged["items"][0]
                probability = self.loop.simulator.click_probability[shopper, self._item_rows[item]]
                yield Decision(item, logged["propensities"][0], bool(self._rng.random() < probability))


def estimate(decisions: list[Decision], policy: dict[str, float]) -> list[Estimate]:
    """Estimate the value of a policy, given as probabilities by item, with both estimators."""
    logged = LoggedDecisions(
        reward=np.array([float(decision.is_clicked) for decision in decisions]),
        propensity=np.array([decision.propensity for decision in decisions]),
        target_propensity=np.array([policy.get(decision.item, 0.0) for decision in decisions]),
    )
    return [ips(logged), snips(logged)]


# The shares and the probability floors give every log an effective sample size of at least 100. With fewer decisions
# the means are not yet normal, and the intervals contain the truth too rarely. The default floor would give 43 for the
# largest share.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("scope", "policy", "floor", "shares"),
    [("fresh", "thompson", 5e-3, (0.0, 0.25, 0.5)), ("slate", "epsilon", 1e-5, (0.0, 0.1))],
)
def test_interval_contains_the_truth_in_95_of_100_logs(
    tmp_path: Path, scope: str, policy: str, floor: float, shares: tuple[float, ...]
) -> None:
    serve = {
        "exploration_rate": 0.5,
        "exploration_scope": scope,
        "exploration_budget": 1000.0,
        "policy": policy,
        "exploration_min_probability": floor,
    }
    world = World(tmp_path, ServeSettings.model_validate(serve))
    logs = [list(world.log()) for _ in range(LOGS)]
    world.loop.close()

    assert not world.loop.explorer.has_alarm
    for share in shares:  # of the decisions for cold items; the others are for the best item
        target_policy = dict.fromkeys(world.cold_items, share / len(world.cold_items))
        target_policy[world.best_item] = target_policy.get(world.best_item, 0.0) + 1 - share
        truth = sum(probability * world.item_values[name] for name, probability in target_policy.items())
        for estimates in zip(*(estimate(decisions, target_policy) for decisions in logs), strict=True):
            coverage = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])

            assert np.mean([estimate.value for estimate in estimates]) == pytest.approx(truth, rel=0.05)
            assert 0.90 <= coverage <= 0.99
