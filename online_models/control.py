"""What people, and the guard, tell the learner: records of the control topic."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from stream.logs import EventLog
from stream.topics import CONTROL

_RECORDS_PER_READ = 4096


class RollbackCommand(msgspec.Struct, frozen=True, tag="rollback"):
    """Go back to a version.

    `skip` names offsets of events to leave out, by partition, and all the rest since that version is learnt again;
    without it, all that was learnt since is left out. `slates` names those of which only slates, and what answers them,
    are left out.
    """

    version: str
    skip: dict[str, list[tuple[int, int]]] | None = None
    reason: str = ""  # id of the alarm that it remedies, or what a person says
    skip_impressions: dict[str, list[tuple[int, int]]] = {}


class CheckpointCommand(msgspec.Struct, frozen=True, tag="checkpoint"):
    """Write a checkpoint now."""


class ExcludeActionsCommand(msgspec.Struct, frozen=True, tag="exclude_actions"):
    """Leave the actions on slates at some offsets of the events out of what people are known by, from now on."""

    impressions: dict[str, list[tuple[int, int]]]  # by partition
    reason: str = ""  # id of the alarm that it remedies, or what a person says


class PauseCommand(msgspec.Struct, frozen=True, tag="pause"):
    """Take no steps until told to resume; answers go on."""

    reason: str = ""  # id of the alarm that it remedies, or what a person says
    version: str = ""  # the version to go on from when it is over
    first_offsets: dict[str, int] = {}  # offset of the first event that must not be learnt, by partition
    missing_action: tuple[int, int] | None = None  # surface and type of the actions that must be heard again
    start_ts: int = 0  # event time, ms
    baseline_click_rate: float = 0.0  # a slate, to which they must come back after labels meant nothing

    @property
    def end_condition(self) -> "EndCondition | None":
        """What has to be over before learning goes on, None if only a person knows."""
        return self.baseline_click_rate or self.missing_action


class ResumeCommand(msgspec.Struct, frozen=True, tag="resume"):
    """Take steps again."""

    reason: str = ""


class TruncateHistoryCommand(msgspec.Struct, frozen=True, tag="truncate_history"):
    """Leave out of what people are known by what they did before `since`, in questions before `until`."""

    start_ts: int  # event time, ms; 0: all that they did counts
    end_ts: int
    reason: str = ""  # id of the alarm that it remedies, or what a person says


EndCondition = tuple[int, int] | float  # surface and type of actions that fell silent; the usual answers a slate
Command = (
    RollbackCommand | CheckpointCommand | PauseCommand | ResumeCommand | TruncateHistoryCommand | ExcludeActionsCommand
)
_decoder = msgspec.json.Decoder(Command)


def encode_command(command: Command) -> bytes:
    return msgspec.json.encode(command)


def decode_command(value: bytes) -> Command:
    """ValueError says what is wrong with it."""
    try:
        command: Command = _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an order to the learner: {error}: {value[:80]!r}") from None
    return command


def read_commands(log: EventLog, end_offset: int, start_ts: int = 0) -> Iterator[Command]:
    """The orders before an offset that were appended at or after a time, ms, but for what is none."""
    return (
        command for _, command in read_commands_with_offsets(log, log.offset_for_time(CONTROL, 0, start_ts), end_offset)
    )


def read_commands_with_offsets(log: EventLog, start_offset: int, end_offset: int) -> Iterator[tuple[int, Command]]:
    """The orders in [first, control) with their offsets, but for what is none."""
    next_offset = max(log.start_offset(CONTROL, 0), start_offset)
    while next_offset < end_offset and len(
        records := log.read(CONTROL, 0, next_offset, min(_RECORDS_PER_READ, end_offset - next_offset))
    ):
        for offset, value in zip(records.offsets, records.values, strict=True):
            with suppress(ValueError):
                yield offset, decode_command(value or b"")
        next_offset = records.offsets[-1] + 1


def current_pause(log: EventLog, end_offset: int) -> PauseCommand | None:
    """The hold that is on for a learner that has read the orders before an offset; None: it takes steps."""
    pause: PauseCommand | None = None
    for command in read_commands(log, end_offset):
        if isinstance(command, PauseCommand | ResumeCommand):
            pause = command if isinstance(command, PauseCommand) else None
    return pause
