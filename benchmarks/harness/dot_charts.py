"""Pictures for the docs, as plain SVG, out of the tables that stand there.

python -m benchmarks.harness.dot_charts docs/guard.md docs/images/guard.svg
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_COLOURS = ("#1f6f8b", "#e07a3f", "#7a5195", "#6b8e23", "#b23a48", "#555555")
_WIDTH, _LEFT, _ROW = 860, 190, 34


def dots(title: str, unit: str, rows: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> str:
    """One line per row, one dot per name where it has a number; without one it stands right of the scale, hollow."""
    most = max(number for numbers in rows.values() for number in numbers if number is not None)
    scale = (_WIDTH - _LEFT - 110) / most
    height = 110 + _ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" '
        'font-family="system-ui, sans-serif" font-size="14">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="28" font-size="17" fill="#222">{escape(title)}</text>',
    ]
    for i, name in enumerate(names):
        x = 16 + i * (_WIDTH - 32) // len(names)
        parts.append(_dot(x + 6, 52, _COLOURS[i], hollow=False))
        parts.append(f'<text x="{x + 16}" y="56" font-size="12" fill="#222">{escape(name)}</text>')
    for j, (row, numbers) in enumerate(rows.items()):
        y = 88 + _ROW * j
        parts.append(f'<text x="16" y="{y + 5}" fill="#222">{escape(row)}</text>')
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_LEFT + most * scale:.0f}" y2="{y}" stroke="#ddd"/>')
        parts += [
            _dot(_LEFT + number * scale, y, _COLOURS[i], hollow=False)
            if number is not None
            else _dot(_LEFT + most * scale + 30 + 18 * i, y, _COLOURS[i], hollow=True)
            for i, number in enumerate(numbers)
        ]
    y = 88 + _ROW * len(rows)
    for k in range(5):
        x = _LEFT + most * scale * k / 4
        parts.append(f'<text x="{x:.0f}" y="{y}" fill="#555" text-anchor="middle">{most * k / 4:.3g}</text>')
    parts.append(f'<text x="{_WIDTH - 12}" y="{y}" fill="#555" text-anchor="end">{escape(unit)}; hollow: never</text>')
    return "\n".join([*parts, "</svg>", ""])


def _dot(x: float, y: float, colour: str, hollow: bool) -> str:
    fill = "#fff" if hollow else colour
    return f'<circle cx="{x:.1f}" cy="{y}" r="6" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def delays_in(page: str) -> tuple[list[str], dict[str, list[float | None]]]:
    """Detectors, and by scenario the minutes that each needs, as the table of `benchmarks.guard.detector_comparison` has them."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    first = next(i for i, line in enumerate(lines) if line.endswith("| F1 |"))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:]]
    kept = [row for row in table[2:] if len(row) == len(table[0]) and row[0] not in ("always", "never", "every hour")]
    kept = [row for row in kept if "as it comes" not in row[0]]
    minutes = [[float(found[0]) if (found := re.findall(r"^[\d.]+", cell)) else None for cell in row] for row in kept]
    scenarios = table[0][1:-2]
    return [row[0] for row in kept], {name: [row[1 + i] for row in minutes] for i, name in enumerate(scenarios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    asked = parser.parse_args()
    names, rows = delays_in(asked.page.read_text())
    seen = {name: numbers for name, numbers in rows.items() if any(number is not None for number in numbers)}
    asked.picture.write_text(dots("Minutes until a change is noticed", "minutes", seen, names))


if __name__ == "__main__":
    main()
