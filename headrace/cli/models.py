"""`headrace models`: versions of the model and its training."""

from typing import Annotated

import typer

from headrace.cli.options import Config, DryRun, Json, Version, Wait, Yes

models = typer.Typer(no_args_is_help=True, help="List, compare, roll back, block and pause model versions.")


@models.command("list")
def models_list(config: Config = None, json: Json = False) -> None:
    """List all versions, oldest first, including damaged ones."""
    from headrace.commands.models.versions import list_versions

    raise typer.Exit(list_versions(config, json))


@models.command("show")
def models_show(version: Version, config: Config = None, json: Json = False) -> None:
    """Show the manifest of a version."""
    from headrace.commands.models.versions import show_version

    raise typer.Exit(show_version(version, config, json))


@models.command("diff")
def models_diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Older version.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Newer version.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Count the rows that changed between two versions, array by array."""
    from headrace.commands.models.diff import diff_versions

    raise typer.Exit(diff_versions(before, after, config, json))


@models.command("lineage")
def models_lineage(version: Version, config: Config = None, json: Json = False) -> None:
    """Show a version and its ancestors with the events that trained each."""
    from headrace.commands.models.versions import show_lineage

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
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = 10.0,
    config: Config = None,
    json: Json = False,
) -> None:
    """Roll back to a version. Without --skip and --impressions, all later training is discarded."""
    from headrace.commands.models.rollback import ExcludedRanges, RollbackExecution, rollback

    ranges = ExcludedRanges(skip or [], impressions or [], downstream)
    raise typer.Exit(rollback(version, ranges, config, RollbackExecution(dry_run, yes, wait, json)))


@models.command("block")
def models_block(
    version: Version,
    reason: Annotated[str, typer.Option(help="Reason, shown by `headrace models list`.")] = "manual",
    config: Config = None,
    json: Json = False,
) -> None:
    """Block a version from serving. A process that already serves it continues until a rollback."""
    from headrace.commands.models.gate import block_version

    raise typer.Exit(block_version(version, reason or "manual", config, json))


@models.command("approve")
def models_approve(version: Version, config: Config = None, json: Json = False) -> None:
    """Allow a version to serve, overriding the guard."""
    from headrace.commands.models.gate import approve_version

    raise typer.Exit(approve_version(version, config, json))


@models.command("pause")
def models_pause(
    reason: Annotated[str, typer.Option(help="Reason, shown by `headrace models list`.")] = "",
    wait: Wait = 10.0,
    config: Config = None,
    json: Json = False,
) -> None:
    """Pause training until `headrace models resume`. Serving continues."""
    from headrace.commands.models.training import pause_learning

    raise typer.Exit(pause_learning(reason, config, wait, json))


@models.command("resume")
def models_resume(wait: Wait = 10.0, config: Config = None, json: Json = False) -> None:
    """Resume training."""
    from headrace.commands.models.training import resume_learning

    raise typer.Exit(resume_learning(config, wait, json))


@models.command("pending")
def models_pending(config: Config = None, json: Json = False) -> None:
    """List the commands that the learner has not taken yet."""
    from headrace.commands.models.pending import list_pending

    raise typer.Exit(list_pending(config, json))


@models.command("withdraw")
def models_withdraw(
    offset: Annotated[int, typer.Argument(min=0, help="Offset, as shown by `headrace models pending`.")],
    wait: Wait = 2.0,
    config: Config = None,
    json: Json = False,
) -> None:
    """Withdraw a command that the learner has not taken yet."""
    from headrace.commands.models.pending import withdraw_command

    raise typer.Exit(withdraw_command(offset, config, wait, json))
