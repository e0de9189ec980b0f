"""The command line describes and reports itself."""

import re
import signal
import subprocess
import time
from importlib.metadata import version
from typing import Any

import pytest
import typer
from prometheus_client import REGISTRY
from typer.testing import CliRunner

import stream.metrics  # noqa: F401  # declares the metric
from headrace.cli import app
from tests.support.processes import HEADRACE

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


@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.3, 0.6])
def test_interrupt_at_the_start_prints_no_traceback(delay_s: float) -> None:
    command = [*HEADRACE, "models", "list", "--config", "/dev/stdin"]  # waits for its settings
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(delay_s)  # of a hasty user
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert process.returncode != 0
    assert "Traceback" not in errors
