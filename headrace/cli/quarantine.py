"""`headrace quarantine`: actions that do not train."""

from typing import Annotated

import typer

from headrace.cli.options import Config, Json

quarantine = typer.Typer(no_args_is_help=True, help="List, release and drop quarantined actions.")
EventIds = Annotated[list[str], typer.Argument(metavar="EVENT_ID…", help="Ids of quarantined events.")]


@quarantine.command("list")
def quarantine_list(config: Config = None, json: Json = False) -> None:
    """List quarantined actions with the detector and the reason."""
    from headrace.commands.quarantine import print_quarantine

    print_quarantine(config, json)


@quarantine.command("release")
def quarantine_release(events: EventIds, config: Config = None, json: Json = False) -> None:
    """Release events: the model trains on them as if they had just arrived."""
    from headrace.commands.quarantine import release_events

    raise typer.Exit(release_events(events, config, json))


@quarantine.command("drop")
def quarantine_drop(events: EventIds, config: Config = None, json: Json = False) -> None:
    """Drop events: they leave the quarantine and never train the model."""
    from headrace.commands.quarantine import drop_events

    raise typer.Exit(drop_events(events, config, json))
