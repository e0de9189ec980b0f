"""Errors of the client; each is a `ClientError`."""

from collections.abc import Sequence

from serving.records import ProblemDocument


class ClientError(Exception):
    """A request that did not succeed."""


class ServerUnreachable(ClientError):
    """No response: the server does not listen, or the connection failed or timed out.

    `is_refused`: there was no connection, so that the server cannot have processed the request.
    """

    def __init__(self, message: str, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused


class RequestRejected(ClientError):
    """An error response; `problem` is its body, `retry_after_s` its Retry-After header."""

    def __init__(self, problem: ProblemDocument, retry_after_s: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_s = retry_after_s


class BufferFull(ClientError):
    """An event that a buffer did not take; the caller still has it."""


class EventsNotSent(ClientError):
    """Events that wait while their buffer is closed: JSON texts, oldest first."""

    def __init__(self, events: Sequence[bytes], cause: ClientError) -> None:
        super().__init__(f"{len(events)} events were not sent: {cause}; send `events` again later")
        self.events = events
