"""`headrace models pause` and `resume`."""

from pathlib import Path

from headrace.commands.installation import open_existing_log
from headrace.commands.models.answers import describe_waiting, exit_code, send_commands
from headrace.commands.output import print_error, print_json
from online_models.control import Command, PauseCommand, ResumeCommand
from stream.config import load

DEFAULT_WAIT_S = 10.0


def pause_learning(reason: str, config: Path | None, wait_s: float = DEFAULT_WAIT_S, as_json: bool = False) -> int:
    """Pause training. Exit code 1: no learner answered; the command waits for it."""
    done = "Training is paused until `headrace models resume`."
    return _send(PauseCommand(reason or "manual"), done, config, wait_s, as_json)


def resume_learning(config: Path | None, wait_s: float = DEFAULT_WAIT_S, as_json: bool = False) -> int:
    """Resume training. Exit code 1: no learner answered; the command waits for it."""
    return _send(ResumeCommand("manual"), "Training continues.", config, wait_s, as_json)


def _send(command: Command, done: str, config: Path | None, wait_s: float, as_json: bool) -> int:
    with open_existing_log(load(config)) as log:
        outcome = send_commands(log, [command], wait_s)
    if as_json:
        print_json({"offset": outcome.offset, "done": outcome.is_done, "error": outcome.error})
    elif outcome.error:
        print_error(f"the learner refused command {outcome.offset}: {outcome.error}")
    else:
        print(done if outcome.is_done else describe_waiting(outcome, wait_s))
    return exit_code(outcome, wait_s)
