"""Bandits judge arms by what came of them, policies choose by it: one algorithm per file, all behind two interfaces."""

from online_models.bandits.policies.beta_thompson import Thompson
from online_models.bandits.policies.epsilon_greedy import EpsilonGreedy
from online_models.bandits.policies.gaussian_thompson import NormalThompson
from online_models.bandits.policies.policy import Bounds, Placed, Policy
from online_models.bandits.policies.squarecb import SquareCB
from online_models.bandits.policies.ucb import UpperBounds
from online_models.bandits.posteriors.beta_bernoulli import Beta, BetaSettings
from online_models.bandits.posteriors.discounting import Fading
from online_models.bandits.posteriors.disjoint_linear import Disjoint
from online_models.bandits.posteriors.hybrid_linear import Hybrid, HybridSettings
from online_models.bandits.posteriors.linear_arms import LinearSettings
from online_models.bandits.protocols import Bandit, Judged, Prior, Rewards

__all__ = [
    "Bandit",
    "Beta",
    "BetaSettings",
    "Bounds",
    "Disjoint",
    "EpsilonGreedy",
    "Fading",
    "Hybrid",
    "HybridSettings",
    "Judged",
    "LinearSettings",
    "NormalThompson",
    "Placed",
    "Policy",
    "Prior",
    "Rewards",
    "SquareCB",
    "Thompson",
    "UpperBounds",
]
