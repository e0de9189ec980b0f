"""Commands for data and for the installation: produce and check."""

from typing import Annotated

import typer

from headrace.cli.options import Config, Json

data = typer.Typer()


@data.command()
def produce(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="JSON lines: .jsonl, .gz, .zst, or - for standard input.")
    ],
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Multiple of the recorded speed (default: as fast as possible).")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write recorded events, items or users to the log."""
    from headrace.commands.produce import produce_files

    raise typer.Exit(produce_files(files, speed, config, json))


@data.command()
def check(
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="PROCESS=HOST:PORT", help="Address of stream, learn or serve elsewhere. Repeatable."),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check settings, connections, processes, lag and alarms; print how to fix each problem.

    Exit code 0: all is well; 1: something is wrong, also if no process runs yet; 2: the settings are invalid.
    """
    from headrace.commands.check import run_checks
    from headrace.diagnostics.scraping import parse_addresses

    try:
        addresses = parse_addresses(at or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from None
    raise typer.Exit(run_checks(config, json, addresses))
