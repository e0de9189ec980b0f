"""Commands to the learner through the control topic, and its answers."""

from online_models.control.answers import Answer, CommandFailure, read_answer, read_pending, send_answer
from online_models.control.commands import (
    ActionReturns,
    CheckpointCommand,
    ClickRateReturns,
    Command,
    EndCondition,
    ExcludeActionsCommand,
    PauseCommand,
    Ranges,
    ResumeCommand,
    RollbackCommand,
    TruncateHistoryCommand,
    WithdrawCommand,
    decode_command,
    encode_command,
)
from online_models.control.reading import current_pause, read_commands, read_commands_with_offsets

__all__ = [
    "ActionReturns",
    "Answer",
    "CheckpointCommand",
    "ClickRateReturns",
    "Command",
    "CommandFailure",
    "EndCondition",
    "ExcludeActionsCommand",
    "PauseCommand",
    "Ranges",
    "ResumeCommand",
    "RollbackCommand",
    "TruncateHistoryCommand",
    "WithdrawCommand",
    "current_pause",
    "decode_command",
    "encode_command",
    "read_answer",
    "read_commands",
    "read_commands_with_offsets",
    "read_pending",
    "send_answer",
]
