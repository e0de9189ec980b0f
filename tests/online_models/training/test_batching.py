"""Tests of the division of a step into training batches."""

from dataclasses import replace

import numpy as np

from online_models.training.batching import iter_batches
from online_models.training.progress import TrainingBatch
from tests.support.batches import generate_batches


def make_rows(offsets: list[int]) -> TrainingBatch:
    batch = generate_batches(1)[0].take(np.arange(len(offsets)))
    return TrainingBatch(replace(batch, offset=np.array(offsets)), np.zeros(len(offsets), np.int64))


def test_rows_of_one_event_stay_together() -> None:
    rows = make_rows([1, 2, 2, 2, 3, 4])

    sizes = [len(batch) for batch, _ in iter_batches(rows, lambda: 2)]

    assert sizes == [4, 2]


def test_equal_offsets_of_two_partitions_are_two_events() -> None:
    rows = replace(make_rows([5, 5, 6]), partition=np.array([0, 1, 1]))

    parts = [partition.tolist() for _, partition in iter_batches(rows, lambda: 1)]

    assert parts == [[0], [1], [1]]


def test_limit_is_asked_before_each_batch() -> None:
    limits = iter([1, 2, 100])

    sizes = [len(batch) for batch, _ in iter_batches(make_rows([1, 2, 3, 4, 5, 6, 7]), lambda: next(limits))]

    assert sizes == [1, 2, 4]
