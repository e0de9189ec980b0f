"""Draw dot charts as SVG from the tables in the docs.

python -m benchmarks.harness.dot_charts docs/guard.md docs/images/guard.svg
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_COLORS = ("#1f6f8b", "#e07a3f", "#7a5195", "#6b8e23", "#b23a48", "#555555")
_WIDTH, _LEFT, _ROW = 860, 190, 34


def draw_dots(title: str, unit: str, rows: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> str:
    """Draw one line per row and one dot per name; a missing number is a hollow dot on the right."""
    max_value = max(number for numbers in rows.values() for number in numbers if number is not None)
    scale = (_WIDTH - _LEFT - 110) / max_value
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
        parts.append(_draw_dot(x + 6, 52, _COLORS[i], is_hollow=False))
        parts.append(f'<text x="{x + 16}" y="56" font-size="12" fill="#222">{escape(name)}</text>')
    for j, (row, numbers) in enumerate(rows.items()):
        y = 88 + _ROW * j
        parts.append(f'<text x="16" y="{y + 5}" fill="#222">{escape(row)}</text>')
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_LEFT + max_value * scale:.0f}" y2="{y}" stroke="#ddd"/>')
        parts += [
            _draw_dot(_LEFT + number * scale, y, _COLORS[i], is_hollow=False)
            if number is not None
            else _draw_dot(_LEFT + max_value * scale + 30 + 18 * i, y, _COLORS[i], is_hollow=True)
            for i, number in enumerate(numbers)
        ]
    y = 88 + _ROW * len(rows)
    for k in range(5):
        tick_x = _LEFT + max_value * scale * k / 4
        parts.append(f'<text x="{tick_x:.0f}" y="{y}" fill="#555" text-anchor="middle">{max_value * k / 4:.3g}</text>')
    parts.append(f'<text x="{_WIDTH - 12}" y="{y}" fill="#555" text-anchor="end">{escape(unit)}; hollow: never</text>')
    return "\n".join([*parts, "</svg>", ""])


def _draw_dot(x: float, y: float, color: str, is_hollow: bool) -> str:
    fill = "#fff" if is_hollow else color
    return f'<circle cx="{x:.1f}" cy="{y}" r="6" fill="{fill}" stroke="{color}" stroke-width="2"/>'


def parse_delays(page: str) -> tuple[list[str], dict[str, list[float | None]]]:
    """Parse the table of `detector_comparison`: detectors, and minutes to detection by scenario."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    first = next(i for i, line in enumerate(lines) if line.endswith("| F1 |"))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:]]
    detector_rows = [
        row for row in table[2:] if len(row) == len(table[0]) and row[0] not in ("always", "never", "every hour")
    ]
    detector_rows = [row for row in detector_rows if "(defaults)" not in row[0]]
    minutes = [
        [float(match[0]) if (match := re.findall(r"^[\d.]+", cell)) else None for cell in row] for row in detector_rows
    ]
    scenarios = table[0][1:-2]
    return [row[0] for row in detector_rows], {
        name: [row[1 + i] for row in minutes] for i, name in enumerate(scenarios)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("image", type=Path)
    arguments = parser.parse_args()
    names, rows = parse_delays(arguments.page.read_text())
    detected = {name: numbers for name, numbers in rows.items() if any(number is not None for number in numbers)}
    arguments.image.write_text(draw_dots("Minutes until detection", "minutes", detected, names))


if __name__ == "__main__":
    main()
