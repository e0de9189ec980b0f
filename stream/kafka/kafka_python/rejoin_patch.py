"""Lets a consumer of kafka-python finish joining its group however short its polls are.

A poll that ends while the group is joined leaves the join under way for the next one to take up. kafka-python 3.0.12
then asks whether it has to join, is told no, as the broker has answered meanwhile, and never takes up what was
answered: the member holds nothing, sends no sign of life, and waits for ever. It happens about once in twenty joins
on a busy machine. Java's client asks whether a join is needed or under way (`rejoinNeededOrPending`); so does this.
"""

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator

_JOIN_TASK = "_join_task"


def patch_rejoin(consumer: Any) -> Any:
    """Have a consumer take up every join that it began; returns it."""
    coordinator = getattr(consumer, "_coordinator", None)
    if type(coordinator) is ConsumerCoordinator and hasattr(coordinator, _JOIN_TASK):
        coordinator.__class__ = _PatchedCoordinator
    return consumer


class _PendingJoin:
    """A join whose answer nobody has taken yet: were it done, the library would begin another one in its place."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def __await__(self) -> Any:
        return self._task.__await__()


class _PatchedCoordinator(ConsumerCoordinator):  # type: ignore[misc]  # the library has no types
    def need_rejoin(self) -> bool:
        return self._join_task is not None or super().need_rejoin()

    @property
    def _join_task(self) -> _PendingJoin | None:
        task: _PendingJoin | None = self.__dict__.get(_JOIN_TASK)
        return task

    @_join_task.setter
    def _join_task(self, task: Any) -> None:
        self.__dict__[_JOIN_TASK] = None if task is None else _PendingJoin(task)
