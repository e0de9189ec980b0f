"""Adam over flat parameters, by batches of lists that may come from several calls."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.rankers.network.dense_layer import sum_of_squares
from stream.jit import kernel

SKIPPED, NORM, CLIPPED, UPDATES, GRADIENT_SQUARES, UPDATE_SQUARES = range(6)  # statistics of steps
PENDING, TRAINED = range(2)  # lists whose gradient waits for a step, and all lists so far

_FIRST_BATCH, _LISTS_PER_LIST = 4, 64  # a batch starts this small, and grows by one with so many lists


@dataclass(frozen=True, slots=True)
class AdamSettings:
    """Hyperparameters of Adam; its rate anneals with the lists trained so far.

    After n lists it is rate / (1 + (n / anneal_lists)²), but at least rate × final_ratio, so that an old model still
    follows a change. The first batches are smaller, and their rate by the root of their size: a new model learns from
    its first lists at once.
    """

    rate: float = 0.002
    batch_lists: int = 4  # lists per step
    anneal_lists: int = 10_000  # lists after which the rate is halved
    final_ratio: float = 0.25
    clip: float = 5.0  # greatest norm of a gradient
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        if min(self.batch_lists, self.anneal_lists) < 1 or not 0 < self.final_ratio <= 1:
            raise ValueError(f"batch_lists and anneal_lists must be positive, final_ratio 0 to 1, got {self}")
        if self.rate <= 0 or self.clip <= 0:
            raise ValueError(f"rate and clip must be positive, got {self}")

    @property
    def columns(self) -> "AdamColumns":
        rate, clip = float(self.rate), float(self.clip)
        return AdamColumns(
            rate, self.batch_lists, float(self.anneal_lists), self.final_ratio, clip, float(self.weight_decay)
        )


class AdamColumns(NamedTuple):
    """The same for kernels."""

    rate: float
    batch_lists: int
    anneal_lists: float
    final_ratio: float
    clip: float
    weight_decay: float


class AdamState(NamedTuple):
    """Flat parameters with their gradient and moments."""

    theta: np.ndarray
    gradient: np.ndarray  # sum over the pending lists
    first_moment: np.ndarray
    second_moment: np.ndarray
    steps: np.ndarray  # (1,) int64
    lists: np.ndarray  # (2,) int64, see PENDING


@kernel
def count_list(state: AdamState, settings: AdamColumns, stats: np.ndarray) -> None:
    """Count a list whose gradient was added; take a step when the batch is complete."""
    lists = state.lists
    lists[PENDING] += 1
    lists[TRAINED] += 1
    batch = min(settings.batch_lists, max(_FIRST_BATCH, lists[TRAINED] // _LISTS_PER_LIST))
    if lists[PENDING] >= batch:
        annealed = 1.0 / (1.0 + (lists[TRAINED] / settings.anneal_lists) ** 2)
        rate = settings.rate * max(settings.final_ratio, annealed) * np.sqrt(min(1.0, batch / settings.batch_lists))
        _step(state, rate, settings, stats)
        lists[PENDING] = 0


@kernel
def _step(state: AdamState, rate: float, settings: AdamColumns, stats: np.ndarray) -> None:
    """One step of Adam (Kingma and Ba 2015) by the mean gradient, with decoupled decay.

    Clears the gradient. One that is not finite changes nothing else.
    """
    theta, gradient, squared_norm = state.theta, state.gradient, 0.0
    n_lists = np.float32(state.lists[PENDING])
    for q in range(theta.size):
        gradient[q] /= n_lists
        squared_norm += gradient[q] * gradient[q]
    if np.isfinite(squared_norm):
        stats[NORM] = max(stats[NORM], np.sqrt(squared_norm))
        stats[GRADIENT_SQUARES] += squared_norm
        stats[UPDATES] += 1
        state.steps[0] += 1
        clip_factor = np.float32(min(1.0, settings.clip / np.sqrt(squared_norm + 1e-12)))
        stats[CLIPPED] += clip_factor < 1.0
        beta1, beta2 = np.float32(0.9), np.float32(0.999)
        lr = np.float32(rate * np.sqrt(1.0 - 0.999 ** state.steps[0]) / (1.0 - 0.9 ** state.steps[0]))
        decay = np.float32(rate * settings.weight_decay)
        first_moment, second_moment, update = state.first_moment, state.second_moment, np.empty_like(theta)
        for q in range(theta.size):
            g = gradient[q] * clip_factor
            first_moment[q] = beta1 * first_moment[q] + (np.float32(1.0) - beta1) * g
            second_moment[q] = beta2 * second_moment[q] + (np.float32(1.0) - beta2) * g * g
            step = lr * first_moment[q] / (np.sqrt(second_moment[q]) + np.float32(1e-8))
            update[q] = step + decay * theta[q]
            theta[q] -= update[q]
        stats[UPDATE_SQUARES] += sum_of_squares(update)
    else:
        stats[SKIPPED] += 1
    gradient[:] = 0.0
