"""`headrace events`: records of the event log."""

from typing import Annotated

import typer

from headrace.cli.options import Config, Json

events = typer.Typer(no_args_is_help=True, help="Read the topics of the event log.")

_BOUND = "an offset (1200), a partition with an offset (0:1200), a time (2026-01-31T08:00:00Z) or an age (-1h)"


@events.command("read")
def events_read(
    topic: Annotated[
        str,
        typer.Option(help="events, items, users, dead-letter, quarantine, alarms, control, examples or model-updates."),
    ] = "events",
    start: Annotated[
        str | None, typer.Option("--from", help=f"First record: {_BOUND}. Without it: the newest records.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included: the same forms as --from.")] = None,
    user: Annotated[str, typer.Option(help="Records of this user only.")] = "",
    item: Annotated[str, typer.Option(help="Records that name this item only, impressions included.")] = "",
    kind: Annotated[str, typer.Option("--type", help="Events or commands of this type only.")] = "",
    reason: Annotated[str, typer.Option(help="Dead letters with this reason only.")] = "",
    detector: Annotated[str, typer.Option(help="Alarms and quarantined actions of this detector only.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of records.")] = 100,
    full: Annotated[bool, typer.Option("--full", help="Print the encoded features of impressions.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Print the records of a topic, oldest first; blocks of numbers are summarized."""
    from headrace.commands.events.filters import RowFilter
    from headrace.commands.events.read import RecordSelection, read_topic

    row_filter = RowFilter(user, item, kind, reason, detector)
    raise typer.Exit(read_topic(RecordSelection(topic, start, end, limit, row_filter, full), config, json))
