"""Of each answer to a slate it is known at once where what was taken stood, as it was predicted."""

from dataclasses import replace

import numpy as np

from online_models.progressive_predictions import rank_clicks
from stream.records.batches import Kind
from tests.support.batches import ITEMS, START, batch_of, lists, questions


def test_places_are_between_the_least_and_the_best_of_each_slate() -> None:
    kinds = [Kind.action, Kind.clicked, Kind.action, Kind.clicked, Kind.clicked, Kind.closed]
    shown = lists([[2], [0, 1, 2], [5], [5, 6], [7], [0, 1]])
    batch = batch_of(kinds, questions(6, [[]] * 6, np.full(6, START)), shown, np.arange(6, dtype=np.uint64))
    batch = replace(batch, event=np.array([1, 1, 2, 2, 3, 0], np.uint64))
    chosen = np.array([1, 3, 4])
    found = rank_clicks(batch, chosen, np.array([0.3, 0.1, 0.2, 0.1, 0.4, 0.5]))

    assert found.row.tolist() == [1, 3]  # of the last it is not known what was taken
    assert found.item.tolist() == ITEMS[[2, 5]].tolist()
    assert found.rank.tolist() == [0.5, 0.0]


def test_nothing_is_answered_where_nobody_acted() -> None:
    batch = batch_of([Kind.shown], questions(1, [[]], np.array([START])), lists([[0, 1]]), np.ones(1, np.uint64))

    assert len(rank_clicks(batch, np.zeros(0, np.int64), np.zeros(0))) == 0
