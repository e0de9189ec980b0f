"""Bandits judge arms by what came of them, policies choose by it: one algorithm per file, all behind two interfaces."""

from online_models.bandits.policies.beta_thompson import BetaThompson
from online_models.bandits.policies.epsilon_greedy import EpsilonGreedy
from online_models.bandits.policies.gaussian_thompson import GaussianThompson
from online_models.bandits.policies.policy import Policy, ProbabilityBounds, Selection
from online_models.bandits.policies.squarecb import SquareCB
from online_models.bandits.policies.ucb import UCB
from online_models.bandits.posteriors.beta_bernoulli import BetaBernoulli, BetaSettings
from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.posteriors.disjoint_linear import DisjointLinear
from online_models.bandits.posteriors.hybrid_linear import HybridLinear, HybridSettings
from online_models.bandits.posteriors.linear_arms import LinearArmSettings
from online_models.bandits.protocols import Bandit, Posterior, Prior, RewardBatch

__all__ = [
    "UCB",
    "Bandit",
    "BetaBernoulli",
    "BetaSettings",
    "BetaThompson",
    "Discounting",
    "DisjointLinear",
    "EpsilonGreedy",
    "GaussianThompson",
    "HybridLinear",
    "HybridSettings",
    "LinearArmSettings",
    "Policy",
    "Posterior",
    "Prior",
    "ProbabilityBounds",
    "RewardBatch",
    "Selection",
    "SquareCB",
]
