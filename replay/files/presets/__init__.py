"""Known layouts of files, as data."""

from replay.files.presets.presets import PRESETS, find_preset, match_preset, nearest_preset

__all__ = ["PRESETS", "find_preset", "match_preset", "nearest_preset"]
