"""Run checks one after another, each within a time limit."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from rich.console import Console

from headrace.diagnostics.results import CheckResult, failed
from stream.process.errors import describe_error

T = TypeVar("T")
_QUIET_S = 1.0  # of waiting, before a line says so where no spinner can


class Runner:
    """Run functions within a time limit each and in total; report on stderr what is waited for."""

    def __init__(self, limit_s: float = 8.0, total_s: float = 25.0) -> None:
        self._limit_s = limit_s
        self._deadline = time.monotonic() + total_s
        self._console = Console(stderr=True)

    def check(self, name: str, function: Callable[[], CheckResult], fix: str = "see the error message") -> CheckResult:
        """Run a check; an error or a timeout is a failed one, with this fix."""
        try:
            return self.call(name, function)
        except (OSError, ValueError) as error:
            return failed(name, describe_error(error), fix)

    def call(self, name: str, function: Callable[[], T]) -> T:
        """Return the result of a function, or raise its error; TimeoutError after the limit.

        The function runs in a thread that does not keep the process alive: a client can wait longer for its server.
        """
        results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

        def run() -> None:
            try:
                results.put((function(), None))
            except BaseException as error:
                results.put((None, error))

        Thread(target=run, name=f"check {name}", daemon=True).start()
        limit_s = max(0.5, min(self._limit_s, self._deadline - time.monotonic()))
        try:
            with self._show_progress(name):
                result, error = self._wait(name, results, limit_s)
        except Empty:
            raise TimeoutError(f"no answer within {limit_s:.0f} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    @contextmanager
    def _show_progress(self, name: str) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(f"checking: {name}"):
            yield

    def _wait(
        self, name: str, results: "SimpleQueue[tuple[T | None, BaseException | None]]", limit_s: float
    ) -> tuple[T | None, BaseException | None]:
        """Wait for the result; Empty after the limit."""
        quiet_s = min(_QUIET_S, limit_s)
        try:
            return results.get(timeout=quiet_s)
        except Empty:
            if not self._console.is_terminal:
                self._console.print(f"checking: {name} (up to {limit_s:.0f} s)", highlight=False, soft_wrap=True)
            return results.get(timeout=max(0.0, limit_s - quiet_s))
