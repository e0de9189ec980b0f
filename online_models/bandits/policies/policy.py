"""Turn posteriors into bounded choice probabilities, and draw arms by exactly these."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from online_models.bandits.arms import Arms, Choice, to_contexts
from online_models.bandits.protocols import Bandit, Posterior
from online_models.bandits.slate_sampling import Selection, sample_slate
from stream.jit import kernel

_MAX_ABS = 1e6  # largest mean or standard deviation that a rule gets


class ChoiceRule(Protocol):
    """Probability of choosing each arm: one algorithm, without state and without randomness."""

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        """Probabilities of n ≥ 1 arms, (n,) float64, not negative, sum 1."""
        ...


@dataclass(frozen=True, slots=True)
class ProbabilityBounds:
    """Bounds of a choice probability.

    The floor limits inverse propensities; the cap keeps some traffic on other arms for comparison.
    """

    floor: float = 1e-5  # 1 / n for more arms than 1 / floor
    cap: float = 1.0  # does not apply to a single arm

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 0.5:
            raise ValueError(f"floor must be above 0 and at most 0.5, got {self.floor}")
        if not 0.5 <= self.cap <= 1:
            raise ValueError(f"cap must be from 0.5 to 1, got {self.cap}")


@kernel
def _are_valid(means: np.ndarray, stds: np.ndarray) -> bool:
    valid = True
    for i in range(means.size):
        valid = valid and abs(means[i]) <= _MAX_ABS and 0.0 <= stds[i] <= _MAX_ABS
    return valid


@kernel
def _apply_bounds(probabilities: np.ndarray, floor: float, cap: float) -> None:
    """Mix in the uniform distribution up to the floor, then spread the excess over the cap."""
    n = probabilities.size
    if n == 0:
        return
    uniform_share = min(1.0, n * floor)
    top = 0
    for i in range(n):
        probabilities[i] = uniform_share / n + (1.0 - uniform_share) * probabilities[i]
        if probabilities[i] > probabilities[top]:
            top = i
    if n > 1 and probabilities[top] > cap:
        rest = 0.0
        for i in range(n):
            rest += probabilities[i] if i != top else 0.0
        for i in range(n):
            probabilities[i] *= (1.0 - cap) / rest
        probabilities[top] = cap


@kernel
def _rank_best(means: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k greatest means, best first; of equal ones the first."""
    ranking, available = np.empty(k, np.int64), np.ones(means.size, np.bool_)
    for position in range(k):
        best = -1
        for i in range(means.size):
            if available[i] and (best < 0 or means[i] > means[best]):
                best = i
        available[best] = False
        ranking[position] = best
    return ranking


@kernel
def _sample_arms(
    probabilities: np.ndarray, means: np.ndarray, floor: float, cap: float, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample every position from all arms; any draw but the best arm left is exploration."""
    _apply_bounds(probabilities, floor, cap)
    n, k = probabilities.size, uniforms.shape[0]
    rows, explored, _, _, propensities = sample_slate(
        _rank_best(means, k), np.arange(n), probabilities, 1.0, k, uniforms
    )
    return rows, propensities, explored


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule within bounds, whose propensities are exact: they are the draw probabilities.

    >>> from online_models.bandits import BetaBernoulli, BetaThompson
    >>> bandit, policy, rng = BetaBernoulli(), Policy(BetaThompson()), np.random.default_rng(0)
    >>> choice = policy.choose(bandit, arms=["a", "b"], rng=rng)
    >>> choice
    Choice(item='a', propensity=0.5)
    >>> bandit.learn(choice, reward=1.0)
    """

    rule: ChoiceRule
    bounds: ProbabilityBounds = field(default_factory=ProbabilityBounds)

    def choose(
        self,
        bandit: Bandit,
        arms: Arms | Sequence[str],
        context: ArrayLike | None = None,
        *,
        rng: np.random.Generator,
        ts: int = 0,
    ) -> Choice:
        """Draw one arm by id; a new id becomes an arm with the bandit's prior.

        `context`: (width,) numbers, or (n, width) for one context per arm; None for a bandit of width 0.
        `ts`: event time in ms, by which the bandit discounts what it learned; 0 discounts nothing.
        """
        arms = arms if isinstance(arms, Arms) else Arms(arms)
        contexts = to_contexts(context, len(arms), bandit.width)
        selection = self.sample(bandit.posterior(bandit.add_arms(arms.keys), contexts), 1, rng)
        index = int(selection.rows[0])
        context_index = min(index, len(contexts) - 1)
        chosen_context = contexts[context_index : context_index + 1].copy()
        return Choice(arms.ids[index], float(selection.propensities[0]), chosen_context, ts)

    def sample(self, posterior: Posterior, k: int, rng: np.random.Generator) -> Selection:
        """Draw up to k different arms without replacement; rows are positions in `posterior`."""
        probabilities, bounds = self._rule_probabilities(posterior), self.bounds
        uniforms = rng.random((min(k, probabilities.size), 2))
        return Selection(*_sample_arms(probabilities, posterior.means, bounds.floor, bounds.cap, uniforms))

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        """Probability of choosing each of n arms, (n,) float64 in (0, 1], sum 1."""
        probabilities = self._rule_probabilities(posterior)
        _apply_bounds(probabilities, self.bounds.floor, self.bounds.cap)
        return probabilities

    def _rule_probabilities(self, posterior: Posterior) -> np.ndarray:
        if posterior.means.size == 0:
            return np.zeros(0)
        # A posterior that is not finite says nothing about its arms: all are equal then.
        if not _are_valid(posterior.means, posterior.stds):
            return np.full(posterior.means.size, 1 / posterior.means.size)
        return self.rule.probabilities(posterior)
