"""Checks of pointwise models: `for check in POINTWISE_MODEL: check(Subject(make, batches))`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from online_models.checks.learners import (
    LEARNER,
    Exercise,
    adapt,
    assert_finite,
    assert_same_bits,
    check_changes_reported_once,
    check_replica_state_matches,
    copy_state,
    require,
    to_bytes,
)
from online_models.protocols import FeatureRows, PointwiseModel
from stream.clock import DAY_MS


class Subject(NamedTuple):
    """A pointwise model with rows to train it on."""

    make: Callable[[], PointwiseModel]  # a new model, each time the same
    batches: Sequence[FeatureRows]


def generate_batches(
    n_fields: int, n_numbers: int, n_batches: int = 8, n_rows: int = 300, seed: int = 0
) -> list[FeatureRows]:
    """Learnable batches, one per day: field j has 4 * 3**j ids, the first ones frequent."""
    rng = np.random.default_rng(seed)
    sizes = [4 * 3 ** min(j, 8) for j in range(n_fields)]
    weights = [rng.normal(0, 1, size) for size in sizes]
    slopes = rng.normal(0, 1, n_numbers)
    generated_batches = []
    for day in range(n_batches):
        ids = [np.minimum(rng.zipf(1.3, n_rows), size) - 1 for size in sizes]
        values = rng.normal(0, 1, (n_rows, n_numbers)).astype(np.float32)
        logit = values @ slopes + sum(weight[field_ids] for weight, field_ids in zip(weights, ids, strict=True))
        label = (rng.random(n_rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        keys = np.stack(
            [(field_ids + 1).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) for field_ids in ids], axis=1
        )
        generated_batches.append(
            FeatureRows(keys, values, label, np.ones(n_rows, np.float32), np.arange(n_rows + 1), day * DAY_MS)
        )
    return generated_batches


def exercise_pointwise_model(subject: Subject) -> Exercise[PointwiseModel, FeatureRows]:
    make, batches = subject
    return Exercise(
        make=make,
        batches=batches,
        learn=lambda model, batch: model.learn(batch),
        predict=lambda model: {str(i): model.predict(batch) for i, batch in enumerate(batches)},
    )


def check_unseen_ids(subject: Subject) -> None:
    model, batches = exercise_pointwise_model(subject).train(), subject.batches
    for keys in (0, 1, 2**64 - 1):
        unseen = replace(batches[0], keys=np.full_like(batches[0].keys, keys))
        _assert_probabilities(model.predict(unseen), f"unseen ids, with key {keys}")
        model.learn(unseen)
        _assert_probabilities(model.predict(unseen), f"ids seen once, with key {keys}")


def check_empty_batches(subject: Subject) -> None:
    model, batches = exercise_pointwise_model(subject).train(), subject.batches
    empty = _slice_rows(batches[0], 0, 0)
    before = copy_state(model.state())
    model.learn(empty)
    assert_same_bits(before, model.state(), "the state after a batch without rows")
    require(model.predict(empty).shape == (0,), "a batch without rows must have no scores")


def check_finite_scores(subject: Subject) -> None:
    model, batches = exercise_pointwise_model(subject).train(), subject.batches
    for batch in _make_extreme(batches[0]):
        _assert_probabilities(model.predict(batch), "a hostile batch before training on it")
        model.learn(batch)
        _assert_probabilities(model.predict(batch), "a hostile batch after training on it")
        assert_finite(model.state(), "the state after a hostile batch")
    _assert_probabilities(model.predict(batches[0]), "a good batch after hostile ones")


def check_invalid_rows_ignored(subject: Subject) -> None:
    model, batches = exercise_pointwise_model(subject).train(), subject.batches
    before = [model.predict(batch) for batch in batches]
    for batch in _make_invalid(batches[0]):
        model.learn(batch)
    for batch, scores in zip(batches, before, strict=True):
        is_same = to_bytes(model.predict(batch)) == to_bytes(scores)
        require(is_same, "scores must not move when no row is valid")


def check_loss_below_baseline(subject: Subject) -> None:
    model, losses, baseline_losses = subject.make(), [], []
    for batch in subject.batches:
        losses.append(_log_loss(model.predict(batch), batch.label))
        baseline_losses.append(_log_loss(np.full(len(batch), batch.label.mean()), batch.label))
        model.learn(batch)
    late = len(losses) // 2
    model_loss, baseline_loss = np.mean(losses[late:]), np.mean(baseline_losses[late:])
    require(
        bool(model_loss < baseline_loss),
        f"log loss must be below that of the best constant prediction, {baseline_loss:.4f}, got {model_loss:.4f}",
    )


def check_batch_splitting(subject: Subject) -> None:
    """For models that learn row by row; not among POINTWISE_MODEL."""
    whole, split = subject.make(), subject.make()
    for batch in subject.batches:
        whole.learn(batch)
        for first, last in ((0, 1), (1, 100), (100, len(batch))):
            split.learn(_slice_rows(batch, first, last))
    for batch in subject.batches:
        scores = {"score": split.predict(batch)}
        assert_same_bits({"score": whole.predict(batch)}, scores, "scores after split batches")


POINTWISE_MODEL: tuple[Callable[[Subject], None], ...] = (
    *adapt((*LEARNER, check_replica_state_matches, check_changes_reported_once), exercise_pointwise_model),
    check_unseen_ids,
    check_empty_batches,
    check_finite_scores,
    check_invalid_rows_ignored,
    check_loss_below_baseline,
)


def _slice_rows(batch: FeatureRows, first: int, last: int) -> FeatureRows:
    """Rows [first, last) of a pointwise batch."""
    part = slice(first, last)
    start = np.arange(last - first + 1)
    return FeatureRows(batch.keys[part], batch.numbers[part], batch.label[part], batch.weight[part], start, batch.now)


def _make_invalid(batch: FeatureRows) -> list[FeatureRows]:
    """Batches without a valid row."""
    nan, infinite = np.float32(np.nan), np.float32(np.inf)
    invalid = [replace(batch, label=np.full_like(batch.label, label)) for label in (nan, infinite, -1, 2)]
    invalid += [replace(batch, weight=np.full_like(batch.weight, weight)) for weight in (nan, infinite, -1)]
    if batch.numbers.shape[1]:
        invalid += [replace(batch, numbers=np.full_like(batch.numbers, x)) for x in (nan, infinite, -infinite)]
    return invalid


def _make_extreme(batch: FeatureRows) -> list[FeatureRows]:
    """Hostile batches: NaN and infinity, huge numbers and weights, contradictory labels."""
    extreme = _make_invalid(batch)
    for x in (-1e38, 1e-38, 1e38):
        extreme.append(replace(batch, numbers=np.full_like(batch.numbers, x)))
        extreme.append(replace(batch, numbers=np.full_like(batch.numbers, x), label=1 - batch.label))
    extreme.append(replace(batch, weight=np.full_like(batch.weight, 1e38)))
    extreme.append(replace(batch, weight=np.full_like(batch.weight, 1e38), numbers=np.full_like(batch.numbers, 1e38)))
    return extreme


def _log_loss(scores: np.ndarray, label: np.ndarray) -> float:
    return float(-np.mean(np.where(label > 0.5, np.log(scores), np.log(1 - scores))))


def _assert_probabilities(scores: np.ndarray, description: str) -> None:
    is_valid = scores.dtype == np.float32 and bool(((scores > 0) & (scores < 1)).all())
    require(is_valid, f"scores of {description} must be float32 between 0 and 1, got {scores}")
