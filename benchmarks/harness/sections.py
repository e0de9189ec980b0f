"""Benchmarks whose result is a section of a docs page: options and output."""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def build_parser(doc: str | None, quick: str, **counts: int) -> argparse.ArgumentParser:
    """Build the shared options: counts with defaults, and `quick`, described by its text."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--quick", action="store_true", help=f"{quick}, to see that it works")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--into", type=Path, metavar="FILE", help="also replace the section of this page")
    return parser


def print_section(options: Any, name: str, section: str, numbers: Mapping[str, Any]) -> None:
    """Print the section or its numbers, and write it to the requested page."""
    if options.into:
        options.into.write_text(replace_section(options.into.read_text(), name, section))
    print(json.dumps(numbers) if options.json else section)


def replace_section(page: str, name: str, section: str) -> str:
    """Replace the section of this name in a page, or append it."""
    new_page, n_replaced = re.subn(
        rf"^### {re.escape(name)}$.*?(?=^##|\Z)", lambda _: section + "\n", page, flags=re.M | re.S
    )
    return (new_page if n_replaced else f"{page.rstrip()}\n\n{section}").rstrip() + "\n"
