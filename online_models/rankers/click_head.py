"""Click probability of shown items, by logistic regression over a ranker's `hidden`."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.features.feature_names import take_all
from online_models.rankers.network.dense_layer import add_weighted, sum_of_squares
from online_models.state.tables import State
from stream.jit import kernel

_MAX_LOG_ODDS = np.float32(15.0)  # log-odds stay within ± this


@dataclass(frozen=True, slots=True)
class ClickHeadSettings:
    """Hyperparameters."""

    rate: float = 0.02  # Adagrad's
    memory: float = 1e6  # shown items after which the gradients that set the step sizes have faded to 1 / e
    bias_memory: float = 2e3  # the same for the bias, so that it follows a change of the click rate at any age
    prior_log_odds: float = -3.0  # before any training

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate must be a positive number, got {self.rate}")
        if min(self.memory, self.bias_memory) < 1:
            raise ValueError(f"memory and bias_memory must be at least 1, got {self.memory} and {self.bias_memory}")

    @property
    def fading(self) -> "Fading":
        return Fading(np.float32(1 - 1 / self.memory), np.float32(1 - 1 / self.bias_memory))


class Fading(NamedTuple):
    """Factors of the sums of squared gradients, per shown item."""

    weight: np.float32
    bias: np.float32


@kernel
def _log_odds(inputs: np.ndarray, weight: np.ndarray) -> np.float32:
    log_odds = weight[inputs.size]
    for j in range(inputs.size):
        log_odds += inputs[j] * weight[j]
    return min(_MAX_LOG_ODDS, max(-_MAX_LOG_ODDS, log_odds))


@kernel
def _learn(
    inputs: np.ndarray, label: np.ndarray, offset: np.ndarray, rate: np.float32, fading: Fading,
    weight: np.ndarray, square: np.ndarray, errors: np.ndarray,
) -> np.float32:  # fmt: skip
    """Train row by row; write the errors, and return the sum of squared changes of the weights."""
    weight_fading, bias_fading = fading
    size, squared_update, steps = inputs.shape[1], np.float32(0.0), np.zeros(weight.size, np.float32)
    for m in range(inputs.shape[0]):
        log_odds = _log_odds(inputs[m], weight) + offset[m]
        target = min(np.float32(1.0), max(np.float32(0.0), label[m]))
        error = np.float32(1.0) / (np.float32(1.0) + np.exp(-log_odds)) - target
        errors[m] = error
        if not np.isfinite(error):
            continue
        for j in range(size + 1):
            g = error * (min(np.float32(8.0), max(np.float32(-8.0), inputs[m, j])) if j < size else np.float32(1.0))
            square[j] = square[j] * (weight_fading if j < size else bias_fading) + g * g
            steps[j] = rate * g / np.sqrt(square[j] + np.float32(1e-3))
            weight[j] -= steps[j]
        squared_update += sum_of_squares(steps)
    return squared_update


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Probabilities of log-odds."""
    probability: np.ndarray = np.float32(1.0) / (np.float32(1.0) + np.exp(-log_odds))
    return probability


class ClickHead:
    """A pointwise head, because a listwise score is defined only up to a constant per list.

    Adagrad (Duchi et al. 2011) whose sums of squares fade: without that, steps get ever smaller, and an old head no
    longer follows a change.
    """

    def __init__(self, inputs: int, settings: ClickHeadSettings = ClickHeadSettings()) -> None:
        self._rate, self._fading = np.float32(settings.rate), settings.fading
        self._weight = np.zeros(inputs + 1, np.float32)
        self._weight[-1] = settings.prior_log_odds
        self._square = np.zeros(inputs + 1, np.float32)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(m,) float32 in (0, 1), for rows of `Ranker.hidden`."""
        return sigmoid(self.log_odds(inputs))

    def log_odds(self, inputs: np.ndarray) -> np.ndarray:
        """The same as log-odds, (m,) float32, within ± 15."""
        log_odds = np.full(inputs.shape[0], self._weight[-1])
        add_weighted(inputs, self._weight[:-1], log_odds)
        return log_odds.clip(-_MAX_LOG_ODDS, _MAX_LOG_ODDS)

    def learn(
        self, inputs: np.ndarray, label: np.ndarray, offset: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Train on shown items with labels 0 or 1.

        `offset`, (m,) float32: log-odds that the items do not owe to themselves. Returns the root mean square update
        norm per item, and the errors before each row was trained: probability minus label, (m,) float32.
        """
        errors = np.zeros(label.size, np.float32)
        offset = np.zeros(label.size, np.float32) if offset is None else offset
        squared_update = _learn(inputs, label, offset, self._rate, self._fading, self._weight, self._square, errors)
        return float(np.sqrt(squared_update / max(1, label.size))), errors

    def state(self) -> State:
        return {"weight": self._weight, "square": self._square}

    def convert_state(self, state: State, columns: np.ndarray) -> State:
        """Move the first inputs to their columns; see `Ranker.convert_state`."""
        n_old = state["weight"].size - (self._weight.size - columns.size)
        behind = np.arange(n_old, state["weight"].size)
        return take_all(state, np.concatenate([columns, behind]), {"weight": 0.0, "square": 0.0})

    def restore(self, state: State) -> None:
        if state["weight"].size != self._weight.size:
            raise ValueError(
                f"a click head over {self._weight.size - 1} inputs cannot take {state['weight'].size - 1} weights:"
                " features or ranker differ"
            )
        self._weight, self._square = state["weight"].copy(), state["square"].copy()

    def changes(self) -> State:
        return {"weight": self._weight.copy()}

    def apply(self, changes: State) -> None:
        self._weight = changes["weight"].copy()
