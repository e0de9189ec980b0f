"""Checks of every learner: repeatable training, pure prediction, exact restore and replicas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, Generic, TypeVar

import numpy as np

from online_models.protocols import Stateful
from online_models.state.tables import State

Learner = TypeVar("Learner", bound=Stateful)
Batch = TypeVar("Batch")
Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Exercise(Generic[Learner, Batch]):
    """A kind of learner, with batches to train it on."""

    make: Callable[[], Learner]  # a new learner, each time the same
    batches: Sequence[Batch]
    learn: Callable[[Learner, Batch], object]
    predict: Callable[[Learner], State]  # fixed predictions, by name

    def train(self, batches: Sequence[Batch] | None = None) -> Learner:
        """A new learner after these batches, by default all."""
        learner = self.make()
        for batch in self.batches if batches is None else batches:
            self.learn(learner, batch)
        return learner


Check = Callable[[Exercise[Any, Any]], None]


def check_learn_keeps_input(exercise: Exercise[Learner, Batch]) -> None:
    learner = exercise.make()
    for batch in exercise.batches:
        before = copy_state(to_arrays(batch))
        exercise.learn(learner, batch)
        assert_same_bits(before, to_arrays(batch), "the batch after learning")


def check_predict_keeps_state(exercise: Exercise[Learner, Batch]) -> None:
    queried, reference = exercise.make(), exercise.make()
    for batch in exercise.batches:
        before = copy_state(queried.state())
        exercise.predict(queried)
        assert_same_bits(before, queried.state(), "the state after predicting")
        exercise.learn(queried, batch)
        exercise.learn(reference, batch)
    assert_same_bits(reference.state(), queried.state(), "the state of a learner that predicted in between")


def check_same_seed_same_run(exercise: Exercise[Learner, Batch]) -> None:
    assert_same_bits(exercise.train().state(), exercise.train().state(), "the state of a second run")


def check_restore_continues_exactly(exercise: Exercise[Learner, Batch]) -> None:
    half = len(exercise.batches) // 2
    learner, restored = exercise.train(exercise.batches[:half]), exercise.train(exercise.batches[half:])
    checkpoint = copy_state(learner.state())
    restored.restore(_freeze(checkpoint))
    for batch in exercise.batches[half:]:
        assert_same_bits(exercise.predict(learner), exercise.predict(restored), "the predictions after restore")
        exercise.learn(learner, batch)
        exercise.learn(restored, batch)
    assert_same_bits(learner.state(), restored.state(), "the state of a restored learner")


def check_replica_matches(exercise: Exercise[Learner, Batch]) -> None:
    learner, early, late = exercise.make(), exercise.make(), exercise.make()
    for i, batch in enumerate(exercise.batches):
        exercise.learn(learner, batch)
        if i == len(exercise.batches) // 2:
            late.restore(_freeze(copy_state(learner.state())))
        changes = _freeze(copy_state(learner.changes()))
        early.apply(changes)
        late.apply(changes)
        assert_same_bits(exercise.predict(learner), exercise.predict(early), "the predictions of a replica")
    assert_same_bits(exercise.predict(learner), exercise.predict(late), "the predictions of a replica that came late")


LEARNER: tuple[Check, ...] = (
    check_learn_keeps_input,
    check_predict_keeps_state,
    check_same_seed_same_run,
    check_restore_continues_exactly,
    check_replica_matches,
)


def check_replica_state_matches(exercise: Exercise[Learner, Batch]) -> None:
    """For learners whose changes carry all state; not among LEARNER."""
    learner, replica = exercise.make(), exercise.make()
    for batch in exercise.batches:
        exercise.learn(learner, batch)
        replica.apply(_freeze(copy_state(learner.changes())))
    assert_same_bits(learner.state(), replica.state(), "the state of a replica")


def check_changes_reported_once(exercise: Exercise[Learner, Batch]) -> None:
    """For learners that report changed rows; not among LEARNER."""
    learner = exercise.train()
    first, second = (sum(array.nbytes for array in learner.changes().values()) for _ in range(2))
    require(second < first, f"a second changes() must be smaller than the first, got {first} and {second} bytes")


def adapt(
    checks: Sequence[Check], to_exercise: Callable[[Subject], Exercise[Any, Any]]
) -> tuple[Callable[[Subject], None], ...]:
    """The same checks over what `to_exercise` takes."""

    def adapt_check(check: Check) -> Callable[[Subject], None]:
        @wraps(check)
        def run(subject: Subject) -> None:
            check(to_exercise(subject))

        return run

    return tuple(adapt_check(check) for check in checks)


def to_arrays(value: object, name: str = "batch") -> State:
    """All arrays inside a batch: an array, or a tuple or dataclass of batches."""
    if isinstance(value, np.ndarray):
        return {name: value}
    parts: dict[str, object] = {}
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, tuple):
        parts = {str(i): part for i, part in enumerate(value)}
    return {key: array for part, inner in parts.items() for key, array in to_arrays(inner, f"{name}.{part}").items()}


def copy_state(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def assert_same_bits(expected: State, got: State, description: str) -> None:
    """Raise AssertionError that names the first array that differs."""
    require(expected.keys() == got.keys(), f"{description} must have {sorted(expected)}, got {sorted(got)}")
    for name in expected:
        require(to_bytes(expected[name]) == to_bytes(got[name]), f"{description} must have the same bits in {name!r}")


def assert_finite(arrays: State, description: str) -> None:
    for name, array in arrays.items():
        is_finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        require(is_finite, f"{description} must be finite in {name!r}, got {array}")


def to_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _freeze(state: State) -> State:
    """The arrays, read-only, as a replica decodes them."""
    for array in state.values():
        array.flags.writeable = False
    return state
