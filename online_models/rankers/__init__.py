"""Rankers over hashed fields and numbers: one algorithm per file, all behind `online_models.learners.Ranker`."""

from online_models.rankers.deep import DeepFM, DeepSettings
from online_models.rankers.fm import FactorizationMachine, FMSettings
from online_models.rankers.linear import Linear, LinearSettings

__all__ = ["DeepFM", "DeepSettings", "FMSettings", "FactorizationMachine", "Linear", "LinearSettings"]
