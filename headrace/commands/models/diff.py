"""`headrace models diff`: count the rows that changed between two versions."""

import math
from pathlib import Path

import numpy as np

from headrace.commands.output import TextTable, print_error, print_json
from online_models.versions import checkpoints
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.config import load


def diff_versions(before: str, after: str, config: Path | None, as_json: bool) -> int:
    """Print how much each array changed between two versions."""
    settings = load(config)
    try:
        _, old = checkpoints.load(settings.checkpoints, before)
        _, new = checkpoints.load(settings.checkpoints, after)
    except (FileNotFoundError, ValueError, DamagedCheckpoint) as error:
        return print_error(error)
    rows = [_diff_array(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    if as_json:
        print_json({"before": before, "after": after, "arrays": rows})
        return 0
    table = TextTable(
        "array", "rows before", "rows after", "rows changed", copied=("array",), title=f"{before} → {after}"
    )
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    table.print()
    return 0


def _diff_array(name: str, old: np.ndarray | None, new: np.ndarray | None) -> dict[str, str | int]:
    return {
        "array": name,
        "rows_before": _count_rows(old),
        "rows_after": _count_rows(new),
        "rows_changed": _count_changed_rows(old, new),
    }


def _count_rows(array: np.ndarray | None) -> int:
    return 0 if array is None else int(array.shape[0]) if array.ndim else 1


def _count_changed_rows(old: np.ndarray | None, new: np.ndarray | None) -> int:
    """Number of new or changed rows of `new`; all of them if the type or row shape changed."""
    if old is None or new is None or old.dtype != new.dtype or old.shape[1:] != new.shape[1:]:
        return _count_rows(new)
    shared = min(_count_rows(old), _count_rows(new))
    is_changed = (_row_bytes(old, shared) != _row_bytes(new, shared)).any(axis=1)
    return int(is_changed.sum()) + _count_rows(new) - shared


def _row_bytes(array: np.ndarray, n_rows: int) -> np.ndarray:
    """The first rows as bytes, (n_rows, bytes per row) uint8; a scalar is one row."""
    rows = np.atleast_1d(array)[:n_rows]
    return np.frombuffer(rows.tobytes(), np.uint8).reshape(n_rows, rows.itemsize * math.prod(rows.shape[1:]))
