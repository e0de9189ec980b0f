"""Make consumers of kafka-python complete a join of their group when polls are short.

A poll that times out during a join leaves the join pending for the next poll. kafka-python 3.0.12 then checks if it
needs to join. It does not, because the broker has responded meanwhile, so it never processes that response: the
member has no partitions, sends no heartbeats and waits forever. This happens about once in twenty joins on a busy
machine. Kafka's Java client checks if a join is needed or pending (`rejoinNeededOrPending`); so does this patch.
"""

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator

_JOIN_TASK = "_join_task"


def patch_rejoin(consumer: Any) -> Any:
    """Make a consumer complete every join that it starts; returns the consumer."""
    coordinator = getattr(consumer, "_coordinator", None)
    if type(coordinator) is ConsumerCoordinator and hasattr(coordinator, _JOIN_TASK):
        coordinator.__class__ = _PatchedCoordinator
    return consumer


def is_rejoin_patched(consumer: Any) -> bool:
    """Return True if a consumer completes every join that it starts."""
    return type(getattr(consumer, "_coordinator", None)) is _PatchedCoordinator


class _PendingJoin:
    """Join with an unprocessed response.

    If it counted as done, the library would start another join in its place.
    """

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
