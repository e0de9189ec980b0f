"""Results are printed whole, on terminals of any width and in pipes."""

import io
import json
import os
import pty

import pytest
from rich.console import Console

from headrace.diagnostics.output import print_results
from headrace.diagnostics.results import CheckResult, failed, passed

COMMAND = "kafka-configs.sh --alter --entity-type topics --entity-name events --add-config cleanup.policy=compact"
RESULTS = [passed("python", "3.11"), failed("topic settings", "wrong [policy] of events", f"run {COMMAND}")]


def print_to_terminal(results: list[CheckResult], width: int) -> str:
    """Output of a terminal of this width, without line breaks and borders."""
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        print_results(results, as_json=False, console=Console(file=terminal, width=width, color_system=None))
    output = io.BytesIO()
    try:
        while chunk := os.read(reader, 65536):
            output.write(chunk)
    except OSError:  # the end of a terminal
        pass
    return output.getvalue().decode()


@pytest.mark.parametrize("width", [20, 60, 80])
def test_narrow_terminal_gets_whole_lines(width: int) -> None:
    output = print_to_terminal(RESULTS, width)

    assert COMMAND in output
    assert "wrong [policy] of events" in output


@pytest.mark.parametrize("width", [100, 120, 200])
def test_table_folds_and_cuts_nothing(width: int) -> None:
    output = print_to_terminal(RESULTS, width)
    cells = [line.split("│") for line in output.splitlines() if "│" in line]
    fixes = "".join(cell[4].strip().replace(" ", "") for cell in cells)

    assert COMMAND.replace(" ", "") in fixes
    assert "…" not in output


def test_pipe_gets_one_line_per_check_and_one_per_fix(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(RESULTS, as_json=False)
    lines = capsys.readouterr().out.splitlines()

    assert [line.split()[0] for line in lines] == ["ok", "FAIL", "fix:"]
    assert lines[2].endswith(COMMAND)


def test_json_is_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(RESULTS, as_json=True)
    report = json.loads(capsys.readouterr().out)

    assert report["ok"] is False
    assert report["checks"][1]["fix"] == f"run {COMMAND}"
