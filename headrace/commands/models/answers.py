"""Send commands to the learner and wait for its answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from online_models.control import Answer, Command, encode_command, read_answer
from stream.logs import EventLog
from stream.topics import CONTROL

_POLL_INTERVAL_S = 0.02
NO_ANSWER = (
    "No learner has answered within {wait:g} s: it is stopped, or it cannot read the log. The command waits for it: "
    "`headrace models pending` lists it, `headrace models withdraw {offset}` withdraws it."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a command; it waits for the learner unless `is_taken`."""

    offset: int  # of the command, in the control topic
    is_taken: bool
    error: str = ""  # the learner could not carry it out

    @property
    def is_done(self) -> bool:
        return self.is_taken and not self.error


def send_commands(log: EventLog, commands: Sequence[Command], wait_s: float) -> Outcome:
    """Append commands and wait until the learner has taken the last one."""
    first = log.append(CONTROL, 0, [(None, encode_command(command)) for command in commands])
    offset = first + len(commands) - 1
    answer = _poll(lambda: _answer_behind(log, offset), wait_s)
    if answer is None:
        return Outcome(offset, is_taken=False)
    failure = answer.failure
    return Outcome(offset, True, failure.error if failure and first <= failure.offset <= offset else "")


def _answer_behind(log: EventLog, offset: int) -> Answer | None:
    answer = read_answer(log)
    return answer if answer and answer.next_offset > offset else None


def _poll(read: Callable[[], Answer | None], wait_s: float) -> Answer | None:
    deadline = time.monotonic() + wait_s
    while (answer := read()) is None and time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL_S)
    return answer


def describe_waiting(outcome: Outcome, wait_s: float) -> str:
    """Message for a command that no learner has taken."""
    if wait_s == 0:
        return f"Sent as command {outcome.offset}; `headrace models pending` lists it until the learner takes it."
    return NO_ANSWER.format(wait=wait_s, offset=outcome.offset)


def exit_code(outcome: Outcome, wait_s: float) -> int:
    """0: done, or sent without a wait; 1: refused, or no answer."""
    return 0 if outcome.is_done or (wait_s == 0 and not outcome.is_taken) else 1
