"""Commands that copy an installation: backup and restore."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.options import Config, Json

backup = typer.Typer()


@backup.command("backup")
def backup_create(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the backup.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Copy log, users and checkpoints as of one moment; the processes may run."""
    from headrace.commands.backup import run_backup

    raise typer.Exit(run_backup(folder, config, json))


@backup.command("restore")
def backup_restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that `headrace backup` wrote.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Check a backup and copy it into an empty data folder; stop the processes first."""
    from headrace.commands.backup import run_restore

    raise typer.Exit(run_restore(folder, config, json))
