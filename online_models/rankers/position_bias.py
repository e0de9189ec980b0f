"""Log-odds of a click that an item owes to its position in the list, not to itself."""

from dataclasses import dataclass

import numpy as np

from online_models.state.tables import State
from stream.ids import hash_ids
from stream.jit import kernel
from stream.records.batches import ExampleBatch, Kind, ListView

_EXACT = 16  # positions with a column of their own; the ones behind share columns of growing width
_COLUMNS = 32
_DEVICES = hash_ids([f"device={name}" for name in ("desktop", "mobile", "phone", "tablet", "app", "web", "tv")])
_MIN_EXPOSURE = np.float32(0.05)
_POSITIONS = np.append(np.arange(_EXACT), _EXACT * 2 ** (np.arange(_COLUMNS - _EXACT) / 4))  # first one by column
_GROUPS = 64  # rows: all lists, then lists by hash of their surface and of their device


@dataclass(frozen=True, slots=True)
class PositionBiasSettings:
    """Hyperparameters."""

    rate: float = 0.2  # Adagrad's
    group_rate: float = 0.05  # the same for surfaces and devices
    memory: float = (
        1e5  # shown items of a position after which the gradients that set the step sizes have faded to 1 / e
    )
    prior: float = 0.5  # before any training, an item in position p is looked at with probability (1 + p) ** -prior
    shrinkage: float = 1e-3  # by which each update draws the bias of a surface or device to 0

    def __post_init__(self) -> None:
        rates = self.rate, self.group_rate
        if not (min(rates) > 0 and max(rates) < float("inf")) or self.memory < 1 or not 0 <= self.shrinkage < 1:
            raise ValueError(f"rates must be positive, memory ≥ 1, shrinkage 0 to 1, got {self}")


@kernel
def _fill_offsets(start: np.ndarray, column: np.ndarray, groups: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    for i in range(start.size - 1):
        for m in range(start[i], start[i + 1]):
            for g in range(groups.shape[1]):
                if groups[i, g] >= 0:
                    out[m] += bias[groups[i, g], column[m]]


@kernel
def _learn(
    start: np.ndarray, column: np.ndarray, groups: np.ndarray, error: np.ndarray,
    rates: np.ndarray, fading: np.float32, kept: np.float32, bias: np.ndarray, square: np.ndarray,
) -> None:  # fmt: skip
    for i in range(start.size - 1):
        for m in range(start[i], start[i + 1]):
            c, e = column[m], error[m]
            if c == 0 or not np.isfinite(e):
                continue
            for g in range(groups.shape[1]):
                row = groups[i, g]
                if row < 0:
                    continue
                square[row, c] = square[row, c] * fading + e * e
                bias[row, c] -= rates[g] * e / np.sqrt(square[row, c] + np.float32(1e-3))
                if row > 0:
                    bias[row, c] *= kept


class PositionBias:
    """Additive bias by position × surface × device, left out when ranking.

    Trained beside the click head: log-odds(click) = log-odds(item) + bias(position). That is the examination
    hypothesis (Richardson et al. 2007) in log-odds, as a shallow tower (Zhao et al. 2019, section 3.3). The bias of the
    first position, and of a list without positions, is 0; surface and device add to what all lists have in common.
    """

    def __init__(self, settings: PositionBiasSettings = PositionBiasSettings()) -> None:
        self._rates = np.array([settings.rate, settings.group_rate, settings.group_rate], np.float32)
        self._kept = np.float32(1 - settings.shrinkage)
        self._fading = np.float32(1 - 1 / settings.memory)
        self._bias = np.zeros((_GROUPS, _COLUMNS), np.float32)
        self._bias[0] = -settings.prior * np.log(1 + _POSITIONS)
        self._square = np.zeros((_GROUPS, _COLUMNS), np.float32)

    def offsets(self, batch: ExampleBatch, view: ListView) -> np.ndarray:
        """Log-odds to add to each entry of the lists, (m,) float32."""
        out = np.zeros(view.flat.size, np.float32)
        _fill_offsets(view.start, _columns(batch, view), _groups(batch, view), self._bias, out)
        return out

    def exposure(self, batch: ExampleBatch) -> np.ndarray:
        """Odds of a click in each entry's position, relative to the first one, (m,) float32.

        The entries are those of `batch.lists`; 1 for one that no impression shows. Clicks over the sum of these are a
        click rate that does not depend on where an item was shown (Zhang and Jones 2007).
        """
        exposure = np.ones(batch.lists.item.size, np.float32)
        shown = batch.select(Kind.shown)
        exposure[shown.flat] = np.exp(self.offsets(batch, shown)).clip(_MIN_EXPOSURE, 1)
        return exposure

    def learn(self, batch: ExampleBatch, view: ListView, error: np.ndarray) -> None:
        """Train on lists; `error`, (m,) float32: probability minus label, NaN to leave out."""
        _learn(
            view.start, _columns(batch, view), _groups(batch, view), error,
            self._rates, self._fading, self._kept, self._bias, self._square,
        )  # fmt: skip

    def state(self) -> State:
        return {"bias": self._bias, "square": self._square}

    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`; checkpoints of earlier versions have none."""
        if state:
            self._bias, self._square = state["bias"].copy(), state["square"].copy()

    def changes(self) -> State:
        return {"bias": self._bias.copy()}

    def apply(self, changes: State) -> None:
        self._bias = changes["bias"].copy()


def _columns(batch: ExampleBatch, view: ListView) -> np.ndarray:
    """Column of each entry's position, (m,) int64; 0 for the first one, and for none."""
    position = np.maximum(batch.lists.position[view.flat], 0).astype(np.int64)
    behind = _EXACT + 4 * np.log2(np.maximum(position, _EXACT) / _EXACT)
    column: np.ndarray = np.where(position < _EXACT, position, np.minimum(behind, _COLUMNS - 1).astype(np.int64))
    return column


def _groups(batch: ExampleBatch, view: ListView) -> np.ndarray:
    """Rows of the table by list, (n, 3) int64: all lists, surface, device; -1 where unknown."""
    context = batch.queries.context[view.rows]
    device = np.where(np.isin(context, _DEVICES), context, np.uint64(0)).max(axis=1, initial=np.uint64(0))
    keys = np.column_stack([batch.queries.surface[view.rows], device])
    hashed = 1 + (keys % np.uint64(_GROUPS - 1)).astype(np.int64)
    return np.hstack([np.zeros((view.rows.size, 1), np.int64), np.where(keys == 0, -1, hashed)])
