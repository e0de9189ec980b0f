"""Bandits estimate rewards of arms; policies choose among arms with known probabilities."""

from online_models.bandits.arms import Arms, Choice
from online_models.bandits.policies.beta_thompson import BetaThompson
from online_models.bandits.policies.epsilon_greedy import EpsilonGreedy
from online_models.bandits.policies.gaussian_thompson import GaussianThompson
from online_models.bandits.policies.policy import ChoiceRule, Policy, ProbabilityBounds
from online_models.bandits.policies.squarecb import SquareCB
from online_models.bandits.policies.ucb import UCB
from online_models.bandits.posteriors.beta_bernoulli import BetaBernoulli, BetaSettings
from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.posteriors.disjoint_linear import DisjointLinear
from online_models.bandits.posteriors.hybrid_linear import HybridLinear, HybridSettings
from online_models.bandits.posteriors.linear_arms import LinearArmSettings
from online_models.bandits.protocols import Bandit, Posterior, Prior, RewardBatch
from online_models.bandits.slate_sampling import Selection

__all__ = [
    "UCB",
    "Arms",
    "Bandit",
    "BetaBernoulli",
    "BetaSettings",
    "BetaThompson",
    "Choice",
    "ChoiceRule",
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
