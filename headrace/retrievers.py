"""Retrievers, which find candidates, with the item table and the queries that they read."""

from online_models.retrievers.candidates import Candidates, Channel, Exclusions, merge_candidates
from online_models.retrievers.covisitation import CovisitationRetriever
from online_models.retrievers.ensemble import RetrieverEnsemble
from online_models.retrievers.item_regression.ease import EaseRetriever
from online_models.retrievers.leaderboards.newest import NewestRetriever
from online_models.retrievers.leaderboards.popular import PopularRetriever
from online_models.retrievers.leaderboards.trending import TrendingRetriever
from online_models.retrievers.recent_history import RecentHistoryRetriever
from online_models.retrievers.retriever import Retriever
from online_models.retrievers.session_knn import SessionKNN
from online_models.retrievers.two_tower import TwoTowerRetriever
from online_models.state.item_table import Actions, ItemTable, UserQueries

__all__ = [
    "Actions",
    "Candidates",
    "Channel",
    "CovisitationRetriever",
    "EaseRetriever",
    "Exclusions",
    "ItemTable",
    "NewestRetriever",
    "PopularRetriever",
    "RecentHistoryRetriever",
    "Retriever",
    "RetrieverEnsemble",
    "SessionKNN",
    "TrendingRetriever",
    "TwoTowerRetriever",
    "UserQueries",
    "merge_candidates",
]
