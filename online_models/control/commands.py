"""Commands to the learner, from operators and from the guard: records of the control topic."""

import msgspec

Ranges = dict[str, list[tuple[int, int]]]  # event offsets [from, to), by partition


class RollbackCommand(msgspec.Struct, frozen=True, tag="rollback"):
    """Go back to a version.

    With `skip`, train again on all events since that version, except those at these offsets. Without it, leave out all
    events since that version. `skip_impressions` leaves out only impressions, at its offsets, and the actions on them.
    """

    version: str
    skip: Ranges | None = None
    reason: str = ""  # id of the alarm that it remedies, or an operator's text
    skip_impressions: Ranges = {}


class CheckpointCommand(msgspec.Struct, frozen=True, tag="checkpoint"):
    """Write a checkpoint now."""


class ExcludeActionsCommand(msgspec.Struct, frozen=True, tag="exclude_actions"):
    """Leave the actions on slates at these offsets out of all user histories from now on."""

    impressions: Ranges
    reason: str = ""  # id of the alarm that it remedies, or an operator's text


class ActionReturns(msgspec.Struct, frozen=True, tag="action_returns"):
    """Actions of a type arrive from a surface again, after an action outage."""

    surface: int
    event_type: int


class ClickRateReturns(msgspec.Struct, frozen=True, tag="click_rate_returns"):
    """Slates are clicked about as often as before a label flip."""

    baseline: float  # clicks per slate


EndCondition = ActionReturns | ClickRateReturns


class PauseCommand(msgspec.Struct, frozen=True, tag="pause"):
    """Pause training until a resume command; serving continues."""

    reason: str = ""  # id of the alarm that it remedies, or an operator's text
    version: str = ""  # version to roll back to when it is over
    first_offsets: dict[str, int] = {}  # offset of the first event that must not be trained on, by partition
    start_ts: int = 0  # event time, ms
    end_condition: EndCondition | None = None  # that the guard waits for; None: only an operator resumes training


class ResumeCommand(msgspec.Struct, frozen=True, tag="resume"):
    """Resume training."""

    reason: str = ""


class TruncateHistoryCommand(msgspec.Struct, frozen=True, tag="truncate_history"):
    """Leave history entries from before `start_ts` out of queries from before `end_ts`."""

    start_ts: int  # event time, ms; 0: keep the full history
    end_ts: int
    reason: str = ""  # id of the alarm that it remedies, or an operator's text


class WithdrawCommand(msgspec.Struct, frozen=True, tag="withdraw"):
    """Withdraw an earlier command that the learner has not taken yet."""

    offset: int  # of that command, in the control topic


Command = (
    RollbackCommand
    | CheckpointCommand
    | PauseCommand
    | ResumeCommand
    | TruncateHistoryCommand
    | ExcludeActionsCommand
    | WithdrawCommand
)
_decoder = msgspec.json.Decoder(Command)


def encode_command(command: Command) -> bytes:
    return msgspec.json.encode(command)


def decode_command(value: bytes) -> Command:
    """Decode a command; a ValueError names the invalid field."""
    try:
        command: Command = _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a command to the learner: {error}: {value[:80]!r}") from None
    return command
