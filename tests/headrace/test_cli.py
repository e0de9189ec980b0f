"""The command line describes and reports itself."""

import errno
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
import typer
from prometheus_client import REGISTRY
from typer.testing import CliRunner

import stream.metrics  # noqa: F401  # declares the metric
from headrace.cli import app
from headrace.cli.application import find_exit_code
from headrace.commands.errors import UsageError

GROUP = typer.main.get_command(app)


def list_commands(command: Any, name: str) -> list[tuple[str, Any]]:
    """List `command` and all commands below it with their full names."""
    found = [(name, command)]
    for child_name, child in getattr(command, "commands", {}).items():
        found += list_commands(child, f"{name} {child_name}")
    return found


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.output) == (0, f"headrace {version('headrace')}\n")


@pytest.mark.parametrize(("name", "command"), list_commands(GROUP, "headrace"))
def test_every_command_and_option_has_help(name: str, command: Any) -> None:
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]

    assert re.match(r"[A-Z].*\.", command.help or "", re.DOTALL), name
    assert [option.name for option in options if not option.help] == []


def test_build_info_has_the_version() -> None:
    [sample] = [
        sample for metric in REGISTRY.collect() for sample in metric.samples if sample.name == "headrace_build_info"
    ]

    assert sample.value == 1
    assert sample.labels["version"] == version("headrace")


@pytest.mark.parametrize("words", [["models", "hold"], ["models", "rollback", "v", "--ripple"], ["nothing"]])
def test_unknown_verbs_and_flags_exit_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


@pytest.mark.parametrize(
    ("error", "is_child", "code"),
    [
        (OSError(errno.ENOSPC, "no space left on device"), True, os.EX_TEMPFAIL),
        (OSError(errno.ENOSPC, "no space left on device"), False, 1),
        (OSError(errno.EROFS, "read-only file system"), True, 1),
        (UsageError("unknown name"), True, 2),
    ],
)
def test_exit_code_says_if_a_restart_can_help(error: OSError | ValueError, is_child: bool, code: int) -> None:
    assert find_exit_code(error, is_child) == code


INTERRUPTED_START = """
import os, signal, sys
moment = sys.argv.pop(), sys.argv.pop()
def interrupt_at(event, arguments):
    if moment == (event, arguments[0] if arguments else None):
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt_at)
from headrace.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("import", "headrace.cli"),
        ("import", "typer"),
        ("import", "pydantic"),
        ("import", "stream.config"),
        ("open", "/dev/null"),  # the settings
    ],
)
def test_interrupt_at_the_start_prints_no_traceback(event: str, name: str) -> None:
    words = ["models", "list", "--config", "/dev/null", name, event]
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_START, *words], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in result.stderr
