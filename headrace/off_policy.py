"""Off-policy estimates from logged propensities: IPS, SNIPS, doubly robust."""

from replay.evaluation.off_policy import Estimate, LoggedDecisions, RewardModel, doubly_robust, ips, snips

__all__ = ["Estimate", "LoggedDecisions", "RewardModel", "doubly_robust", "ips", "snips"]
