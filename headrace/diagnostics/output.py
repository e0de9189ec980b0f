"""Print the results of checks, for people and for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from headrace.diagnostics.results import CheckResult

_MIN_WIDTH = 100  # columns below which a table would break most lines


def print_results(results: Sequence[CheckResult], as_json: bool, console: Console | None = None) -> None:
    """Print JSON, a table, or plain lines where a table has no room; nothing is ever cut."""
    console = console or Console()
    if as_json:
        checks = [asdict(result) for result in results]
        print(json.dumps({"ok": all(result.ok for result in results), "checks": checks}))
    elif console.is_terminal and console.width >= _MIN_WIDTH:
        console.print(_make_table(results))
    else:
        for line in _make_lines(results):
            print(line, file=console.file)


def _make_table(results: Sequence[CheckResult]) -> Table:
    table = Table(show_lines=True)
    table.add_column("ok", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("detail", overflow="fold", ratio=1)
    table.add_column("fix", overflow="fold", ratio=1)
    for result in results:
        mark = "[green]✓" if result.ok else "[red]✗"
        table.add_row(mark, result.name, _escape(result.detail), "" if result.ok else _escape(result.fix))
    return table


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _make_lines(results: Sequence[CheckResult]) -> list[str]:
    """One line per check, and one more with the fix of a failed one."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f"{'ok  ' if result.ok else 'FAIL'}  {result.name:<{width}}  {result.detail}")
        if not result.ok:
            lines.append(f"{'':<6}{'':<{width}}  fix: {result.fix}")
    return lines
