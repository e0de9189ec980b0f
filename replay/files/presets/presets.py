"""All presets, and the search for the one that fits a file."""

from collections.abc import Collection
from difflib import get_close_matches

from replay.files.presets.analytics import ANALYTICS_PRESETS
from replay.files.presets.preset import Preset
from replay.files.presets.research import RESEARCH_PRESETS
from replay.files.presets.shops import SHOP_PRESETS

PRESETS = {preset.name: preset for preset in (*RESEARCH_PRESETS, *SHOP_PRESETS, *ANALYTICS_PRESETS)}


def find_preset(name: str) -> Preset:
    """Preset by its name; ValueError names the nearest one."""
    if name not in PRESETS:
        nearest = get_close_matches(name, PRESETS, 1, 0.5)
        hint = f"the nearest is {nearest[0]!r}; " if nearest else ""
        raise ValueError(f"preset {name!r} is unknown; {hint}see headrace produce --presets")
    return PRESETS[name]


def match_preset(columns: Collection[str], line: str) -> Preset | None:
    """Most specific preset that fits a file with these columns and this first line."""
    fitting = [preset for preset in PRESETS.values() if preset.matches(columns, line)]
    return max(fitting, key=lambda preset: len(preset.recognized_by), default=None)


def nearest_preset(columns: Collection[str]) -> Preset:
    """Preset that shares the most columns with a file."""
    known = [preset for preset in PRESETS.values() if preset.recognized_by]
    return max(known, key=lambda preset: 1 - len(preset.missing(columns)) / len(preset.recognized_by))
