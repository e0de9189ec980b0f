"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./headrace.toml if it exists).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Child = Annotated[bool, typer.Option("--child", hidden=True, help="Stop when the parent process ends.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version, as shown by `headrace models list`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the consequences and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation on a terminal.")]
Wait = Annotated[
    float,
    typer.Option(min=0, help="Seconds to wait for the learner's answer; exit code 1 without one. 0: do not wait."),
]
