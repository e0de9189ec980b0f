"""Every retriever passes the public checks."""

from collections.abc import Callable

import pytest

from online_models.checks import RETRIEVER
from online_models.checks.retrievers import RetrieverFactory
from online_models.retrievers.covisitation import CovisitationRetriever
from online_models.retrievers.ensemble import RetrieverEnsemble
from online_models.retrievers.item_regression.ease import EaseRetriever
from online_models.retrievers.leaderboards.newest import NewestRetriever
from online_models.retrievers.leaderboards.popular import PopularRetriever
from online_models.retrievers.leaderboards.trending import TrendingRetriever
from online_models.retrievers.recent_history import RecentHistoryRetriever
from online_models.retrievers.session_knn import SessionKNN
from online_models.retrievers.two_tower import TwoTowerRetriever
from online_models.state.item_table import ItemTable

RETRIEVERS: tuple[RetrieverFactory, ...] = (
    RecentHistoryRetriever,
    CovisitationRetriever,
    SessionKNN,
    EaseRetriever,
    TrendingRetriever,
    PopularRetriever,
    NewestRetriever,
    TwoTowerRetriever,
)


@pytest.mark.parametrize("check", RETRIEVER, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", RETRIEVERS, ids=lambda make: make.__name__)
def test_retriever_passes(make: RetrieverFactory, check: Callable[[RetrieverFactory], None]) -> None:
    check(make)


def test_every_live_retriever_is_checked() -> None:
    parts = RetrieverEnsemble(ItemTable()).parts.values()

    assert [type(part) for part in parts] == list(RETRIEVERS)
    assert len({part.channel for part in parts}) == len(RETRIEVERS)
