"""What every ranker must pass. Run them on one of your own: `for check in CHECKS: check(make, generated(12, 3))`."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np

from online_models.protocols import FeatureRows, Ranker
from online_models.state.tables import State

MakeRanker = Callable[[], Ranker]  # a new ranker, each time the same
Batches = Sequence[FeatureRows]
Check = Callable[[MakeRanker, Batches], None]

_DAY_MS = 86_400_000  # ms


def generate_batches(
    n_fields: int, n_numbers: int, n_batches: int = 8, n_rows: int = 300, seed: int = 0
) -> list[FeatureRows]:
    """Batches with something to learn: field j has 4 * 3**j ids of which the first are frequent; a day each."""
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
            FeatureRows(keys, values, label, np.ones(n_rows, np.float32), np.arange(n_rows + 1), day * _DAY_MS)
        )
    return generated_batches


def check_learn_keeps_input(make: MakeRanker, batches: Batches) -> None:
    ranker = make()
    for batch in batches:
        before = _copy_state(_to_arrays(batch))
        ranker.predict(batch)
        ranker.learn(batch)
        _assert_same_bits(before, _to_arrays(batch), "the batch after learning")


def check_predict_keeps_state(make: MakeRanker, batches: Batches) -> None:
    queried, reference = make(), make()
    for batch in batches:
        for other in batches:
            queried.predict(other)
        queried.learn(batch)
        reference.learn(batch)
    _assert_same_bits(reference.state(), queried.state(), "the state of a ranker that was asked in between")


def check_same_seed_same_run(make: MakeRanker, batches: Batches) -> None:
    _assert_same_bits(_train(make, batches).state(), _train(make, batches).state(), "the state of a second run")


def check_restore_continues_exactly(make: MakeRanker, batches: Batches) -> None:
    half = len(batches) // 2
    ranker, restored = _train(make, batches[:half]), _train(make, batches[half:])
    restored.restore(_copy_state(ranker.state()))
    for batch in batches[half:]:
        _assert_same_scores(ranker, restored, batches)
        ranker.learn(batch)
        restored.learn(batch)
    _assert_same_bits(ranker.state(), restored.state(), "the state of a restored ranker")


def check_replica_matches(make: MakeRanker, batches: Batches) -> None:
    ranker, early, late = make(), make(), make()
    for i, batch in enumerate(batches):
        ranker.learn(batch)
        if i == len(batches) // 2:
            late.restore(_copy_state(ranker.state()))
        changes = _copy_state(ranker.changes())
        early.apply(changes)
        late.apply(changes)
        _assert_same_scores(ranker, early, batches)
    _assert_same_scores(ranker, late, batches)
    _assert_same_bits(ranker.state(), early.state(), "the state of a replica")


def check_changes_reported_once(make: MakeRanker, batches: Batches) -> None:
    ranker = _train(make, batches)
    first, second = (sum(array.nbytes for array in ranker.changes().values()) for _ in range(2))
    _assert(second < first, f"changes() asked twice must give less the second time, got {first} and {second} bytes")


def check_unseen_ids(make: MakeRanker, batches: Batches) -> None:
    ranker = _train(make, batches)
    for keys in (0, 1, 2**64 - 1):
        unseen = replace(batches[0], keys=np.full_like(batches[0].keys, keys))
        _assert_probabilities(ranker.predict(unseen), f"ids never seen, with key {keys}")
        ranker.learn(unseen)
        _assert_probabilities(ranker.predict(unseen), f"ids seen once, with key {keys}")


def check_empty_batches(make: MakeRanker, batches: Batches) -> None:
    ranker = _train(make, batches)
    empty = _slice_rows(batches[0], 0, 0)
    before = _copy_state(ranker.state())
    ranker.learn(empty)
    _assert_same_bits(before, ranker.state(), "the state after a batch of no rows")
    _assert(ranker.predict(empty).shape == (0,), "predicting a batch of no rows must give no scores")


def check_finite_scores(make: MakeRanker, batches: Batches) -> None:
    ranker = _train(make, batches)
    for batch in _make_extreme(batches[0]):
        _assert_probabilities(ranker.predict(batch), "a hostile batch before it is learnt")
        ranker.learn(batch)
        _assert_probabilities(ranker.predict(batch), "a hostile batch after it is learnt")
        for name, array in ranker.state().items():
            _assert(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{name} must stay finite")
    _assert_probabilities(ranker.predict(batches[0]), "a good batch after hostile ones")


def check_invalid_rows_ignored(make: MakeRanker, batches: Batches) -> None:
    ranker = _train(make, batches)
    before = [ranker.predict(batch) for batch in batches]
    for batch in _make_invalid(batches[0]):
        ranker.learn(batch)
    for batch, scores in zip(batches, before, strict=True):
        _assert(
            _to_bytes(ranker.predict(batch)) == _to_bytes(scores), "scores must not move when no row can be learnt from"
        )


def check_loss_below_baseline(make: MakeRanker, batches: Batches) -> None:
    ranker, losses, baseline_losses = make(), [], []
    for batch in batches:
        losses.append(_log_loss(ranker.predict(batch), batch.label))
        baseline_losses.append(_log_loss(np.full(len(batch), batch.label.mean()), batch.label))
        ranker.learn(batch)
    late = len(batches) // 2
    model_loss, baseline_loss = np.mean(losses[late:]), np.mean(baseline_losses[late:])
    _assert(
        bool(model_loss < baseline_loss),
        f"log loss must be below that of the best constant, {baseline_loss:.4f}, got {model_loss:.4f}",
    )


def check_batch_splitting(make: MakeRanker, batches: Batches) -> None:
    """For rankers that learn row by row; not among CHECKS."""
    whole, split = make(), make()
    for batch in batches:
        whole.learn(batch)
        for first, last in ((0, 1), (1, 100), (100, len(batch))):
            split.learn(_slice_rows(batch, first, last))
    _assert_same_scores(whole, split, batches)


CHECKS: tuple[Check, ...] = (
    check_learn_keeps_input,
    check_predict_keeps_state,
    check_same_seed_same_run,
    check_restore_continues_exactly,
    check_replica_matches,
    check_changes_reported_once,
    check_unseen_ids,
    check_empty_batches,
    check_finite_scores,
    check_invalid_rows_ignored,
    check_loss_below_baseline,
)


def _train(make: MakeRanker, batches: Batches) -> Ranker:
    ranker = make()
    for batch in batches:
        ranker.learn(batch)
    return ranker


def _slice_rows(batch: FeatureRows, first: int, last: int) -> FeatureRows:
    """Rows [first, last) of a pointwise batch."""
    part = slice(first, last)
    start = np.arange(last - first + 1)
    return FeatureRows(batch.keys[part], batch.numbers[part], batch.label[part], batch.weight[part], start, batch.now)


def _make_invalid(batch: FeatureRows) -> list[FeatureRows]:
    """Batches none of whose rows can be learnt from."""
    nan, infinite = np.float32(np.nan), np.float32(np.inf)
    invalid = [replace(batch, label=np.full_like(batch.label, label)) for label in (nan, infinite, -1, 2)]
    invalid += [replace(batch, weight=np.full_like(batch.weight, weight)) for weight in (nan, infinite, -1)]
    if batch.numbers.shape[1]:
        invalid += [replace(batch, numbers=np.full_like(batch.numbers, x)) for x in (nan, infinite, -infinite)]
    return invalid


def _make_extreme(batch: FeatureRows) -> list[FeatureRows]:
    """Batches that nobody should send: no numbers, numbers and weights too large, labels that disagree."""
    extreme = _make_invalid(batch)
    for x in (-1e38, 1e-38, 1e38):
        extreme.append(replace(batch, numbers=np.full_like(batch.numbers, x)))
        extreme.append(replace(batch, numbers=np.full_like(batch.numbers, x), label=1 - batch.label))
    extreme.append(replace(batch, weight=np.full_like(batch.weight, 1e38)))
    extreme.append(replace(batch, weight=np.full_like(batch.weight, 1e38), numbers=np.full_like(batch.numbers, 1e38)))
    return extreme


def _to_arrays(batch: FeatureRows) -> State:
    return {field.name: np.asarray(getattr(batch, field.name)) for field in fields(batch)}


def _copy_state(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def _to_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _log_loss(scores: np.ndarray, label: np.ndarray) -> float:
    return float(-np.mean(np.where(label > 0.5, np.log(scores), np.log(1 - scores))))


def _assert(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _assert_probabilities(scores: np.ndarray, description: str) -> None:
    is_valid = scores.dtype == np.float32 and bool(((scores > 0) & (scores < 1)).all())
    _assert(is_valid, f"scores of {description} must be float32 between 0 and 1, got {scores}")


def _assert_same_scores(left: Ranker, right: Ranker, batches: Batches) -> None:
    for batch in batches:
        _assert(
            _to_bytes(left.predict(batch)) == _to_bytes(right.predict(batch)), "both rankers must predict the same bits"
        )


def _assert_same_bits(expected: State, got: State, description: str) -> None:
    _assert(expected.keys() == got.keys(), f"{description} must have {sorted(expected)}, got {sorted(got)}")
    for name in expected:
        _assert(_to_bytes(expected[name]) == _to_bytes(got[name]), f"{description} must have the same bits in {name!r}")
