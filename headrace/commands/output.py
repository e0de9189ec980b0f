"""Print tables and messages in which nothing that must be copied is cut."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 1_000_000  # characters; a file has no width, so nothing is folded

Cell = str | Text


class TextTable:
    """Table whose `copied` columns keep each value on one line, however narrow the terminal is.

    The other columns fold. In a pipe or a file nothing folds.
    """

    def __init__(self, *columns: str, copied: Sequence[str] = (), title: str = "") -> None:
        self._columns, self._copied, self._title = columns, copied, title
        self._rows: list[list[Text]] = []

    def add_row(self, *cells: Cell) -> None:
        """Add a row; square brackets in a text are no markup."""
        self._rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def print(self) -> None:
        is_terminal = sys.stdout.isatty()
        console = Console(width=None if is_terminal else _PIPE_WIDTH, highlight=False)
        if self._title:
            console.print(Text(self._title, style="bold"), soft_wrap=True)
        if is_terminal:
            console.print(self._build(), crop=False)
            return
        with console.capture() as capture:
            console.print(self._build())
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))

    def _build(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for i, name in enumerate(self._columns):
            if name in self._copied:
                width = max([len(name), *(row[i].cell_len for row in self._rows)])
                table.add_column(name, no_wrap=True, min_width=width, overflow="ignore")
            else:
                table.add_column(name, overflow="fold")
        for row in self._rows:
            table.add_row(*row)
        return table


def print_json(value: Any) -> None:
    print(json.dumps(value))


def print_note(text: str) -> None:
    """Print to standard error, so that standard output holds the result only."""
    print(text, file=sys.stderr)


def print_error(error: object) -> int:
    """Print an error and return the exit code of a failure."""
    Console(stderr=True).print(Text(f"headrace: {error}", style="red"), soft_wrap=True)
    return 1


def format_time(ms: int | None) -> str:
    """Time in UTC to the second; "" if there is none."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else ""


def format_count(count: int, noun: str, plural: str = "") -> str:
    """Count with its noun.

    >>> format_count(1, "version"), format_count(1200, "event")
    ('1 version', '1,200 events')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def has_operator(yes: bool) -> bool:
    """Return True if a person at a terminal has to confirm; scripts have no terminal."""
    return not yes and sys.stdin.isatty()


def ask(question: str) -> bool:
    """Ask on the terminal; no answer is a no."""
    try:
        return Confirm.ask(Text(question), console=Console(stderr=True), default=False)
    except EOFError:
        return False
