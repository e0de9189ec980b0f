"""`headrace models`: versions of the model and its training."""

from typing import Annotated

import typer

from headrace.cli.options import Config, Json, Version

models = typer.Typer(no_args_is_help=True, help="List, compare, roll back, block and pause model versions.")


@models.command("list")
def models_list(config: Config = None, json: Json = False) -> None:
    """List all versions, oldest first, including damaged ones."""
    from headrace.commands.models import list_versions

    list_versions(config, json)


@models.command("show")
def models_show(version: Version, config: Config = None, json: Json = False) -> None:
    """Show the manifest of a version."""
    from headrace.commands.models import show_version

    raise typer.Exit(show_version(version, config, json))


@models.command("diff")
def models_diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Older version.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Newer version.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Count the rows that changed between two versions, array by array."""
    from headrace.commands.models import diff_versions

    raise typer.Exit(diff_versions(before, after, config, json))


@models.command("lineage")
def models_lineage(version: Version, config: Config = None, json: Json = False) -> None:
    """Show a version and its ancestors with the events that trained each."""
    from headrace.commands.models import show_lineage

    raise typer.Exit(show_lineage(version, config, json))


@models.command("rollback")
def models_rollback(
    version: Version,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:FROM-TO",
            help="Exclude these events (TO is not included) and train on the others again. Repeatable.",
        ),
    ] = None,
    impressions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:FROM-TO",
            help="Exclude these impressions and the actions on them, also from user histories; other actions still "
            "train the model. Repeatable.",
        ),
    ] = None,
    downstream: Annotated[
        bool, typer.Option(help="Also exclude impressions served by versions that the skipped events trained.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Roll back to a version. Without --skip and --impressions, all later training is discarded."""
    from headrace.commands.models import ExcludedRanges, rollback

    raise typer.Exit(rollback(version, ExcludedRanges(skip or [], impressions or [], downstream), config, json))


@models.command("block")
def models_block(
    version: Version,
    reason: Annotated[str, typer.Option(help="Reason, shown by `headrace models list`.")] = "manual",
    config: Config = None,
) -> None:
    """Block a version from serving. A process that already serves it continues until a rollback."""
    from headrace.commands.models import block_version

    raise typer.Exit(block_version(version, reason or "manual", config))


@models.command("approve")
def models_approve(version: Version, config: Config = None) -> None:
    """Allow a version to serve, overriding the guard."""
    from headrace.commands.models import approve_version

    raise typer.Exit(approve_version(version, config))


@models.command("pause")
def models_pause(
    reason: Annotated[str, typer.Option(help="Reason, shown by `headrace models list`.")] = "", config: Config = None
) -> None:
    """Pause training until `headrace models resume`. Serving continues."""
    from headrace.commands.models import pause_learning

    pause_learning(reason, config)


@models.command("resume")
def models_resume(config: Config = None) -> None:
    """Resume training."""
    from headrace.commands.models import resume_learning

    resume_learning(config)
