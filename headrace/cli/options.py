"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./headrace.toml if it exists).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Child = Annotated[bool, typer.Option("--child", hidden=True, help="Stop when the parent process ends.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version, as shown by `headrace models list`.")]
