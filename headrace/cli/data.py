"""Commands for data and for the installation: produce and check."""

from typing import Annotated, Literal

import typer

from headrace.cli.options import Config, Json

data = typer.Typer()
Kind = Literal["events", "items", "users"]


@data.command()
def produce(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE…",
            help="JSON lines, JSON arrays, CSV, TSV or Parquet, also .gz and .zst; - for standard input.",
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN[:FORMAT]",
            help="Column of a field, as in user_id=userId, ts=timestamp:s, categories=genres:|, surface='\"home\"'."
            " Repeatable.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="Layout of the files, or `none`; default: guessed. See --presets.")] = "",
    type: Annotated[str, typer.Option(help="Type of events that have none, such as rating.")] = "",
    kind: Annotated[Kind | None, typer.Option(help="Kind of all records (default: detected record by record).")] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Write the events in time order.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="The files are the whole catalog: delete the items that they lack.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show ten records and the counts; write nothing.")] = False,
    wait: Annotated[
        bool, typer.Option(help="Wait until the running stream has read the events, and report those it rejects.")
    ] = True,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets and exit.")] = False,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Multiple of the recorded speed (default: as fast as possible).")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write recorded events, items or users to the log.

    Exit code 130 or 143 after SIGINT or SIGTERM; the same command continues.
    """
    if presets:
        from headrace.produce.preview import print_presets

        print_presets()
        raise typer.Exit
    if not files:
        raise typer.BadParameter("expected at least one file, or - for standard input", param_hint="FILE…")
    from headrace.produce.command import ProduceOptions, produce_files
    from replay.files.options import ReadOptions
    from stream.process.signals import end_input_on_signals, stop_on_signals

    read = ReadOptions(maps=tuple(maps or ()), preset=preset, type=type, kind=kind, sort=sort)
    options = ProduceOptions(read=read, speed=speed, dry_run=dry_run, replace=replace, wait=wait)
    stop = stop_on_signals()
    if "-" in files:
        end_input_on_signals()
    code = produce_files(files, options, config, json, stop)
    raise typer.Exit(128 + stop.number if stop.number else code)


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
