"""Rankers over hashed fields and numbers: one algorithm per file, all behind `online_models.protocols.Ranker`."""

from online_models.rankers.deepfm import DeepFM, DeepFMSettings
from online_models.rankers.factorization_machine import FactorizationMachine, FMSettings
from online_models.rankers.ftrl import FTRLRegression, FTRLSettings

__all__ = ["DeepFM", "DeepFMSettings", "FMSettings", "FTRLRegression", "FTRLSettings", "FactorizationMachine"]
