"""Bandits judge arms by what came of them, policies choose by it: one algorithm per file, all behind two interfaces."""

from online_models.bandits.arms import Bandit, Judged, Prior, Rewards
from online_models.bandits.beta import Beta, BetaSettings
from online_models.bandits.disjoint import Disjoint
from online_models.bandits.epsilon import EpsilonGreedy
from online_models.bandits.fading import Fading
from online_models.bandits.hybrid import Hybrid, HybridSettings
from online_models.bandits.linear import LinearSettings
from online_models.bandits.normal_thompson import NormalThompson
from online_models.bandits.policies import Bounds, Placed, Policy
from online_models.bandits.squarecb import SquareCB
from online_models.bandits.thompson import Thompson
from online_models.bandits.ucb import UpperBounds

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
