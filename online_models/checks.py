"""What every ranker must pass. Run them on one of your own: `for check in CHECKS: check(make, generated(12, 3))`."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np

from online_models.protocols import FieldBatch, Ranker
from online_models.state.tables import State

Make = Callable[[], Ranker]  # a new ranker, each time the same
Batches = Sequence[FieldBatch]
Check = Callable[[Make, Batches], None]

_DAY = 86_400_000  # ms


def generated(fields: int, numbers: int, batches: int = 8, rows: int = 300, seed: int = 0) -> list[FieldBatch]:
    """Batches with something to learn: field j has 4 * 3**j ids of which the first are frequent; a day each."""
    rng = np.random.default_rng(seed)
    sizes = [4 * 3 ** min(j, 8) for j in range(fields)]
    weights = [rng.normal(0, 1, size) for size in sizes]
    slopes = rng.normal(0, 1, numbers)
    made = []
    for day in range(batches):
        ids = [np.minimum(rng.zipf(1.3, rows), size) - 1 for size in sizes]
        values = rng.normal(0, 1, (rows, numbers)).astype(np.float32)
        logit = values @ slopes + sum(weight[chosen] for weight, chosen in zip(weights, ids, strict=True))
        label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        keys = np.stack([(chosen + 1).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) for chosen in ids], axis=1)
        made.append(FieldBatch(keys, values, label, np.ones(rows, np.float32), np.arange(rows + 1), day * _DAY))
    return made


def learning_leaves_its_input_alone(make: Make, batches: Batches) -> None:
    ranker = make()
    for batch in batches:
        before = _copied(_arrays(batch))
        ranker.predict(batch)
        ranker.learn(batch)
        _demand_same_bits(before, _arrays(batch), "the batch after learning")


def predicting_leaves_the_learner_alone(make: Make, batches: Batches) -> None:
    asked, silent = make(), make()
    for batch in batches:
        for other in batches:
            asked.predict(other)
        asked.learn(batch)
        silent.learn(batch)
    _demand_same_bits(silent.state(), asked.state(), "the state of a ranker that was asked in between")


def the_same_start_gives_the_same_run(make: Make, batches: Batches) -> None:
    _demand_same_bits(_taught(make, batches).state(), _taught(make, batches).state(), "the state of a second run")


def a_restored_ranker_goes_on_with_the_same_bits(make: Make, batches: Batches) -> None:
    half = len(batches) // 2
    ranker, restored = _taught(make, batches[:half]), _taught(make, batches[half:])
    restored.restore(_copied(ranker.state()))
    for batch in batches[half:]:
        _demand_same_scores(ranker, restored, batches)
        ranker.learn(batch)
        restored.learn(batch)
    _demand_same_bits(ranker.state(), restored.state(), "the state of a restored ranker")


def a_replica_predicts_the_same_bits(make: Make, batches: Batches) -> None:
    ranker, early, late = make(), make(), make()
    for i, batch in enumerate(batches):
        ranker.learn(batch)
        if i == len(batches) // 2:
            late.restore(_copied(ranker.state()))
        changes = _copied(ranker.changes())
        early.apply(changes)
        late.apply(changes)
        _demand_same_scores(ranker, early, batches)
    _demand_same_scores(ranker, late, batches)
    _demand_same_bits(ranker.state(), early.state(), "the state of a replica")


def changes_are_told_once(make: Make, batches: Batches) -> None:
    ranker = _taught(make, batches)
    first, second = (sum(array.nbytes for array in ranker.changes().values()) for _ in range(2))
    _demand(second < first, f"changes() asked twice must give less the second time, got {first} and {second} bytes")


def unseen_ids_work(make: Make, batches: Batches) -> None:
    ranker = _taught(make, batches)
    for keys in (0, 1, 2**64 - 1):
        strange = replace(batches[0], keys=np.full_like(batches[0].keys, keys))
        _demand_probabilities(ranker.predict(strange), f"ids never seen, with key {keys}")
        ranker.learn(strange)
        _demand_probabilities(ranker.predict(strange), f"ids seen once, with key {keys}")


def empty_batches_work(make: Make, batches: Batches) -> None:
    ranker = _taught(make, batches)
    nothing = _rows(batches[0], 0, 0)
    before = _copied(ranker.state())
    ranker.learn(nothing)
    _demand_same_bits(before, ranker.state(), "the state after a batch of no rows")
    _demand(ranker.predict(nothing).shape == (0,), "predicting a batch of no rows must give no scores")


def scores_stay_finite_on_hostile_input(make: Make, batches: Batches) -> None:
    ranker = _taught(make, batches)
    for batch in _hostile(batches[0]):
        _demand_probabilities(ranker.predict(batch), "a hostile batch before it is learnt")
        ranker.learn(batch)
        _demand_probabilities(ranker.predict(batch), "a hostile batch after it is learnt")
        for name, array in ranker.state().items():
            _demand(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{name} must stay finite")
    _demand_probabilities(ranker.predict(batches[0]), "a good batch after hostile ones")


def rows_that_are_no_numbers_teach_nothing(make: Make, batches: Batches) -> None:
    ranker = _taught(make, batches)
    before = [ranker.predict(batch) for batch in batches]
    for batch in _unsound(batches[0]):
        ranker.learn(batch)
    for batch, scores in zip(batches, before, strict=True):
        _demand(_bits(ranker.predict(batch)) == _bits(scores), "scores must not move when no row can be learnt from")


def learning_helps(make: Make, batches: Batches) -> None:
    ranker, losses, rates = make(), [], []
    for batch in batches:
        losses.append(_log_loss(ranker.predict(batch), batch.label))
        rates.append(_log_loss(np.full(len(batch), batch.label.mean()), batch.label))
        ranker.learn(batch)
    late = len(batches) // 2
    ours, floor = np.mean(losses[late:]), np.mean(rates[late:])
    _demand(bool(ours < floor), f"log loss must be below that of the best constant, {floor:.4f}, got {ours:.4f}")


def splitting_a_batch_changes_nothing(make: Make, batches: Batches) -> None:
    """For rankers that learn row by row; not among CHECKS."""
    whole, split = make(), make()
    for batch in batches:
        whole.learn(batch)
        for first, last in ((0, 1), (1, 100), (100, len(batch))):
            split.learn(_rows(batch, first, last))
    _demand_same_scores(whole, split, batches)


CHECKS: tuple[Check, ...] = (
    learning_leaves_its_input_alone,
    predicting_leaves_the_learner_alone,
    the_same_start_gives_the_same_run,
    a_restored_ranker_goes_on_with_the_same_bits,
    a_replica_predicts_the_same_bits,
    changes_are_told_once,
    unseen_ids_work,
    empty_batches_work,
    scores_stay_finite_on_hostile_input,
    rows_that_are_no_numbers_teach_nothing,
    learning_helps,
)


def _taught(make: Make, batches: Batches) -> Ranker:
    ranker = make()
    for batch in batches:
        ranker.learn(batch)
    return ranker


def _rows(batch: FieldBatch, first: int, last: int) -> FieldBatch:
    """Rows [first, last) of a pointwise batch."""
    part = slice(first, last)
    start = np.arange(last - first + 1)
    return FieldBatch(batch.keys[part], batch.numbers[part], batch.label[part], batch.weight[part], start, batch.now)


def _unsound(batch: FieldBatch) -> list[FieldBatch]:
    """Batches none of whose rows can be learnt from."""
    nan, infinite = np.float32(np.nan), np.float32(np.inf)
    made = [replace(batch, label=np.full_like(batch.label, label)) for label in (nan, infinite, -1, 2)]
    made += [replace(batch, weight=np.full_like(batch.weight, weight)) for weight in (nan, infinite, -1)]
    if batch.numbers.shape[1]:
        made += [replace(batch, numbers=np.full_like(batch.numbers, x)) for x in (nan, infinite, -infinite)]
    return made


def _hostile(batch: FieldBatch) -> list[FieldBatch]:
    """Batches that nobody should send: no numbers, numbers and weights too large, labels that disagree."""
    made = _unsound(batch)
    for x in (-1e38, 1e-38, 1e38):
        made.append(replace(batch, numbers=np.full_like(batch.numbers, x)))
        made.append(replace(batch, numbers=np.full_like(batch.numbers, x), label=1 - batch.label))
    made.append(replace(batch, weight=np.full_like(batch.weight, 1e38)))
    made.append(replace(batch, weight=np.full_like(batch.weight, 1e38), numbers=np.full_like(batch.numbers, 1e38)))
    return made


def _arrays(batch: FieldBatch) -> State:
    return {field.name: np.asarray(getattr(batch, field.name)) for field in fields(batch)}


def _copied(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def _bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _log_loss(scores: np.ndarray, label: np.ndarray) -> float:
    return float(-np.mean(np.where(label > 0.5, np.log(scores), np.log(1 - scores))))


def _demand(holds: bool, claim: str) -> None:
    if not holds:
        raise AssertionError(claim)


def _demand_probabilities(scores: np.ndarray, of: str) -> None:
    good = scores.dtype == np.float32 and bool(((scores > 0) & (scores < 1)).all())
    _demand(good, f"scores of {of} must be float32 between 0 and 1, got {scores}")


def _demand_same_scores(left: Ranker, right: Ranker, batches: Batches) -> None:
    for batch in batches:
        _demand(_bits(left.predict(batch)) == _bits(right.predict(batch)), "both rankers must predict the same bits")


def _demand_same_bits(expected: State, got: State, what: str) -> None:
    _demand(expected.keys() == got.keys(), f"{what} must have {sorted(expected)}, got {sorted(got)}")
    for name in expected:
        _demand(_bits(expected[name]) == _bits(got[name]), f"{what} must have the same bits in {name!r}")
