"""`headrace quarantine`: actions that do not train."""

from typing import Annotated

import typer

from headrace.cli.options import Config, DryRun, Json, Yes

quarantine = typer.Typer(no_args_is_help=True, help="List, release and drop quarantined actions.")
EventIds = Annotated[list[str] | None, typer.Argument(metavar="[EVENT_ID…]", help="Ids of quarantined events.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="Actions of this user. Repeatable.")]
Items = Annotated[list[str] | None, typer.Option("--item", help="Actions on this item. Repeatable.")]
Detectors = Annotated[
    list[str] | None,
    typer.Option("--detector", help="Actions that this detector quarantined, such as flood. Repeatable."),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option("--range", metavar="PARTITION:FROM-TO", help="Events at these offsets, without TO. Repeatable."),
]
All = Annotated[bool, typer.Option("--all", help="All actions in quarantine.")]


@quarantine.command("list")
def quarantine_list(
    user: Users = None,
    item: Items = None,
    detector: Detectors = None,
    offsets: Ranges = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List quarantined actions with the detector and the reason."""
    from headrace.commands.quarantine import ActionFilter, print_quarantine

    action_filter = ActionFilter((), user or (), item or (), detector or (), offsets or ())
    raise typer.Exit(print_quarantine(action_filter, config, json))


@quarantine.command("release")
def quarantine_release(
    events: EventIds = None,
    user: Users = None,
    item: Items = None,
    detector: Detectors = None,
    offsets: Ranges = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Release actions that fulfil all conditions.

    The model trains on them as if they had just arrived.
    """
    from headrace.commands.quarantine import RELEASE, ActionFilter, DecisionExecution, resolve_actions

    action_filter = ActionFilter(events or (), user or (), item or (), detector or (), offsets or (), everything)
    raise typer.Exit(resolve_actions(RELEASE, action_filter, config, DecisionExecution(dry_run, yes, json)))


@quarantine.command("drop")
def quarantine_drop(
    events: EventIds = None,
    user: Users = None,
    item: Items = None,
    detector: Detectors = None,
    offsets: Ranges = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Drop actions that fulfil all conditions: they never train the model."""
    from headrace.commands.quarantine import DROP, ActionFilter, DecisionExecution, resolve_actions

    action_filter = ActionFilter(events or (), user or (), item or (), detector or (), offsets or (), everything)
    raise typer.Exit(resolve_actions(DROP, action_filter, config, DecisionExecution(dry_run, yes, json)))
