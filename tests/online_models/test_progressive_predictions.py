"""Clicked slates know the predicted rank of the clicked item at once."""

from dataclasses import replace

import numpy as np

from online_models.progressive_predictions import rank_clicks
from stream.records.batches import Kind
from tests.support.batches import ITEMS, START, make_batch, make_lists, make_queries


def test_ranks_run_from_the_worst_to_the_best_of_each_slate() -> None:
    kinds = [Kind.action, Kind.clicked, Kind.action, Kind.clicked, Kind.clicked, Kind.closed]
    shown = make_lists([[2], [0, 1, 2], [5], [5, 6], [7], [0, 1]])
    batch = make_batch(kinds, make_queries(6, [[]] * 6, np.full(6, START)), shown, np.arange(6, dtype=np.uint64))
    batch = replace(batch, event=np.array([1, 1, 2, 2, 3, 0], np.uint64))
    ranks = rank_clicks(batch, batch.select(Kind.clicked), np.array([0.3, 0.1, 0.2, 0.1, 0.4, 0.5]))

    assert ranks.row.tolist() == [1, 3]  # the batch does not hold the action of the last slate
    assert ranks.item.tolist() == ITEMS[[2, 5]].tolist()
    assert ranks.rank.tolist() == [0.5, 0.0]


def test_a_batch_without_actions_has_no_ranks() -> None:
    batch = make_batch(
        [Kind.shown], make_queries(1, [[]], np.array([START])), make_lists([[0, 1]]), np.ones(1, np.uint64)
    )

    assert len(rank_clicks(batch, batch.select(Kind.clicked), np.zeros(0))) == 0
