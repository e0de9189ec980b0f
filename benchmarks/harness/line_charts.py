"""Draw line charts as SVG for light and dark pages."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 300, 56, 16, 44, 44  # of a panel
_STYLE = """
    .page { fill: #fff; } text { fill: #16202a; font-size: 13px; } .title { font-size: 15px; font-weight: 600; }
    .grid { stroke: #d5dce1; } .curve { fill: none; stroke-width: 2.2; }
    .c0 { stroke: #5c6b78; } .c1 { stroke: #0d9488; } text.c0, text.c1 { stroke: none; font-weight: 600; }
    text.c0 { fill: #5c6b78; } text.c1 { fill: #0d9488; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0e1419; } text { fill: #e4eaef; } .grid { stroke: #2b3740; }
      .c0 { stroke: #93a3b0; } .c1 { stroke: #2dd4bf; } text.c0 { fill: #93a3b0; } text.c1 { fill: #2dd4bf; }
    }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """Up to two curves over the same x; the y axis starts at 0."""

    title: str
    x: np.ndarray  # (n,)
    curves: Mapping[str, np.ndarray]  # (n,) each


def draw_chart(title: str, x_title: str, panels: list[Panel]) -> str:
    """Draw panels side by side."""
    width = _WIDTH * len(panels) + _RIGHT  # half of the last label extends beyond its panel
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img"'
        " font-family=\"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\">",
        f"  <title>{title}</title>",
        f"  <style>{_STYLE}  </style>",
        f'  <rect class="page" width="{width}" height="{_HEIGHT}" rx="12"/>',
    ]
    for i, panel in enumerate(panels):
        parts += [f'  <g transform="translate({i * _WIDTH} 0)">', *_draw_panel(panel, x_title), "  </g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_panel(panel: Panel, x_title: str) -> list[str]:
    top = 1.15 * max(float(curve.max()) for curve in panel.curves.values()) or 1.0
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x_positions = _LEFT + (right - _LEFT) * panel.x / panel.x[-1]
    parts = [f'    <text class="title" x="{_LEFT}" y="26">{panel.title}</text>']
    for y in _tick_values(top):
        tick_y = bottom - (bottom - _TOP) * y / top
        parts.append(f'    <path class="grid" d="M{_LEFT} {tick_y:.1f}H{right}"/>')
        parts.append(f'    <text x="{_LEFT - 8}" y="{tick_y + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in _tick_values(float(panel.x[-1])):
        tick_x = _LEFT + (right - _LEFT) * x / panel.x[-1]
        parts.append(f'    <text x="{tick_x:.1f}" y="{bottom + 18}" text-anchor="middle">{x:,.0f}</text>')
    parts.append(f'    <text x="{(_LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle">{x_title}</text>')
    for i, (name, curve) in enumerate(panel.curves.items()):
        y_positions = bottom - (bottom - _TOP) * curve / top
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(x_positions.tolist(), y_positions.tolist(), strict=True))
        parts.append(f'    <polyline class="curve c{i}" points="{points}"/>')
        parts.append(f'    <text class="c{i}" x="{right - 90 + 50 * i}" y="26">{name}</text>')
    return parts


def _tick_values(top: float) -> list[float]:
    """Round tick values from 0 to `top`, at most seven."""
    size = 10.0 ** np.floor(np.log10(top))
    step = next(size * part for part in (0.2, 0.5, 1.0, 2.0) if top / (size * part) < 7)
    return [round(step * i, 10) for i in range(int(top / step) + 1)]
