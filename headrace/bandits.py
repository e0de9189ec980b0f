"""Bandits, and policies that choose with exact propensities; arms by string id.

>>> import numpy as np
>>> bandit, policy, rng = BetaBernoulli(), Policy(BetaThompson()), np.random.default_rng(7)
>>> choice = policy.choose(bandit, arms=["a", "b"], rng=rng)
>>> choice.propensity
0.5
>>> bandit.learn(choice, reward=1.0)
"""

from online_models.bandits import *  # noqa: F403 - the face of the package, whole
