"""Headrace: a recommender that learns while it serves. One verb per process."""

import errno
import os
import sys
from typing import Annotated

import typer

from headrace.cli.alarms import alarms
from headrace.cli.backup import backup
from headrace.cli.data import data
from headrace.cli.events import events
from headrace.cli.models import models
from headrace.cli.processes import processes
from headrace.cli.quarantine import quarantine
from headrace.cli.replay import replay

# One BLAS thread per process, set before numpy is imported: sums keep their order, and processes do not compete for
# cores.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# Each verb imports its dependencies inside the function, so that --help responds at once.

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
app.add_typer(processes)
app.add_typer(data)
app.add_typer(backup)
app.add_typer(models, name="models")
app.add_typer(alarms, name="alarms")
app.add_typer(events, name="events")
app.add_typer(quarantine, name="quarantine")
app.add_typer(replay, name="replay")

_USAGE_ERRORS = ("SettingsError", "UsageError")  # by name: importing them here would delay --help


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def headrace(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Headrace: a recommender that learns while it serves. One verb per process."""


def main() -> None:
    """Run a verb.

    Exit code 1: the command failed; 2: the command line or settings are invalid; 75, of a process that `up` has started
    only: the disk is full.
    """
    try:
        app()
    except (OSError, ValueError) as error:
        print_error(error)
        raise SystemExit(find_exit_code(error, "--child" in sys.argv)) from None


def find_exit_code(error: OSError | ValueError, is_child: bool) -> int:
    """Exit code of a verb that ended with an error; `is_child`: `up` has started it."""
    if type(error).__name__ in _USAGE_ERRORS:
        return 2
    is_disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return os.EX_TEMPFAIL if is_disk_full and is_child else 1


def print_error(error: BaseException) -> None:
    from stream.process.errors import describe_error

    print(f"headrace: {describe_error(error)}", file=sys.stderr)
