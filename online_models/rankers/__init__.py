"""Rankers: one algorithm per file, all behind `online_models.protocols.Ranker`."""

from online_models.protocols import LearnReport, Ranker, RankerSettings
from online_models.rankers.deepfm import DeepFM, DeepFMSettings
from online_models.rankers.factorization_machine import FactorizationMachine, FMSettings
from online_models.rankers.ftrl import FTRLRegression, FTRLSettings
from online_models.rankers.list_softmax import softmax_by_list
from online_models.rankers.listnet import ListNet, ListNetSettings
from online_models.rankers.pointwise import DeepFMRanker, FMRanker, FTRLRanker, PointwiseRanker

__all__ = [
    "DeepFM",
    "DeepFMRanker",
    "DeepFMSettings",
    "FMRanker",
    "FMSettings",
    "FTRLRanker",
    "FTRLRegression",
    "FTRLSettings",
    "FactorizationMachine",
    "LearnReport",
    "ListNet",
    "ListNetSettings",
    "PointwiseRanker",
    "Ranker",
    "RankerSettings",
    "softmax_by_list",
]
