"""`headrace alarms`: findings of the detectors."""

from enum import StrEnum
from typing import Annotated

import typer

from headrace.cli.options import Config, Json

alarms = typer.Typer(no_args_is_help=True, help="List the alarms of the detectors.")


class AlarmKindOption(StrEnum):
    """Kind of an alarm."""

    POISON = "poison"
    DRIFT = "drift"


@alarms.command("list")
def alarms_list(
    kind: Annotated[AlarmKindOption | None, typer.Option(help="Alarms of this kind only.")] = None,
    detector: Annotated[
        list[str] | None, typer.Option(help="Alarms of this detector only, such as flood. Repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Alarms since a time (2026-01-31T08:00:00Z) or an age (-1h) only.")
    ] = None,
    is_open: Annotated[
        bool | None, typer.Option("--open/--closed", help="Alarms that are open, or that are closed, only.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List alarms, oldest first, with their evidence; open ones are marked."""
    from headrace.commands.alarms import AlarmFilter, list_alarms

    alarm_filter = AlarmFilter(kind.value if kind else "", tuple(detector or ()), since, is_open)
    raise typer.Exit(list_alarms(alarm_filter, config, json))
