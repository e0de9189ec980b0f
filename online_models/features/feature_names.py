"""Feature names in a state, so that a state of other features can be read column by column."""

from collections.abc import Sequence

import numpy as np

from online_models.state.tables import State


def encode_names(names: Sequence[str]) -> np.ndarray:
    """Encode names as bytes, (b,) uint8."""
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def decode_names(data: np.ndarray) -> tuple[str, ...]:
    """Decode what `encode_names` returned."""
    return tuple(data.tobytes().decode().split("\n"))


def map_columns(old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """Column of each new feature among the old ones, (len(new),) int64; -1 where there is none.

    >>> map_columns(["age", "price"], ["price", "rating", "age"]).tolist()
    [1, -1, 0]
    """
    positions = {name: column for column, name in enumerate(old)}
    return np.array([positions.get(name, -1) for name in new], np.int64)


def take_columns(values: np.ndarray, columns: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Entries of the first axis by `map_columns`; new ones are `fill`."""
    taken = np.full((columns.size, *values.shape[1:]), fill, values.dtype)
    taken[columns >= 0] = values[columns[columns >= 0]]
    return taken


def take_all(state: State, columns: np.ndarray, fills: dict[str, float]) -> State:
    """`take_columns` of the arrays that `fills` names; the others stay."""
    return state | {name: take_columns(state[name], columns, fill) for name, fill in fills.items() if name in state}
