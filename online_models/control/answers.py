"""Answers of the learner: its position in the control topic, and the last failure."""

import logging
from contextlib import closing, suppress
from dataclasses import dataclass

import msgspec

from online_models.control.commands import Command
from online_models.control.reading import read_commands_with_offsets
from stream.logs import EventLog, Position
from stream.process.errors import describe_error
from stream.topics import CONTROL

_GROUP = "learn"
_MAX_ERROR_LENGTH = 500  # characters; Kafka limits the note of a position to 4 KiB
_logger = logging.getLogger(__name__)


class CommandFailure(msgspec.Struct, frozen=True):
    """A command that the learner could not carry out; it changed nothing."""

    offset: int
    error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Progress of the learner in the control topic."""

    next_offset: int  # of the first command that it has not taken
    failure: CommandFailure | None = None  # the last one


def send_answer(log: EventLog, next_offset: int, failure: CommandFailure | None) -> None:
    """Commit the position in the control topic, with the last failure as its note.

    Only operators read it. So a log that is away delays nothing here.
    """
    note = ""
    if failure:
        note = msgspec.json.encode(CommandFailure(failure.offset, failure.error[:_MAX_ERROR_LENGTH])).decode()
    try:
        with closing(log.open_source(CONTROL, _GROUP, partitions=[0])) as source:
            source.commit({0: Position(next_offset, note)})
    except OSError as error:
        _logger.warning("cannot commit offset %d of the control topic: %s", next_offset, describe_error(error))


def read_answer(log: EventLog) -> Answer | None:
    """The last answer; None if no learner has ever taken a command."""
    position = log.committed(CONTROL, _GROUP).get(0)
    if position is None:
        return None
    failure = None
    with suppress(msgspec.DecodeError):
        failure = msgspec.json.decode(position.metadata, type=CommandFailure)
    return Answer(position.offset, failure)


def read_pending(log: EventLog, next_offset: int) -> list[tuple[int, Command]]:
    """Commands from an offset on that wait for the learner, with their offsets."""
    return list(read_commands_with_offsets(log, next_offset, log.end_offset(CONTROL, 0)))
