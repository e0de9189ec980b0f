"""Checks that every live part passes, by kind.

Run them on your own: `for check in RANKER: check(MyRanker)`.
"""

from online_models.checks.bandits import BANDIT
from online_models.checks.detectors import DETECTOR
from online_models.checks.learners import LEARNER, Exercise
from online_models.checks.pointwise_models import POINTWISE_MODEL
from online_models.checks.policies import POLICY
from online_models.checks.rankers import RANKER
from online_models.checks.retrievers import RETRIEVER

__all__ = ["BANDIT", "DETECTOR", "LEARNER", "POINTWISE_MODEL", "POLICY", "RANKER", "RETRIEVER", "Exercise"]
