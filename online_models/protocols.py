"""Interfaces of everything that learns, and of the rankers in particular."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from online_models.state.tables import State


class Stateful(Protocol):
    """State that a checkpoint holds whole and that a replica follows change by change.

    All state is numpy arrays by name. `restore(state())` and applying every `changes()` both give the same bits.
    """

    def state(self) -> State:
        """All state, as views where possible: copy it before learning on."""
        ...

    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`."""
        ...

    def changes(self) -> State:
        """Changes since the last call: rows with their columns, and small dense arrays whole."""
        ...

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        ...


@dataclass(frozen=True, slots=True)
class LearnReport:
    """Result of one call of `Ranker.learn`: means over its lists, predicted before training."""

    lists: int = 0  # that trained: of two items or more, with a label
    loss: float = 0.0  # softmax cross entropy, nats
    auc: float = 0.5
    gradient_norm: float = 0.0  # greatest, before clipping
    skipped: int = 0  # updates that were not finite
    clipped: int = 0  # updates whose gradient was longer than allowed
    updates: int = 0  # that were made
    rms_gradient_norm: float = 0.0  # norm before clipping, root mean square over updates
    update_norm: float = 0.0  # root mean square of the parameter change per update

    @classmethod
    def from_gradient(cls, gradient: np.ndarray, update: np.ndarray | None = None) -> "LearnReport":
        """Report of one update by this gradient, before clipping.

        `update` is the change of the parameters, if known.

        >>> LearnReport.from_gradient(np.array([3.0, 4.0])).gradient_norm
        5.0
        """
        norm = float(np.linalg.norm(gradient))
        if not math.isfinite(norm):
            return cls(skipped=1)
        update_norm = 0.0 if update is None else float(np.linalg.norm(update))
        return cls(gradient_norm=norm, updates=1, rms_gradient_norm=norm, update_norm=update_norm)


@dataclass(frozen=True, slots=True)
class RankerSettings:
    """Settings that every ranker receives."""

    name: str = "listnet"  # see `online_models.plugins.load_ranker`
    seed: int = 1
    lists: Literal["shown", "candidates"] = "shown"  # what it ranks: shown lists, or candidates of all channels

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


class Ranker(Stateful, Protocol):
    """Score items of lists by their features.

    Scoring leaves the ranker alone; learning leaves its input alone. A ranker is constructed as `Ranker(features,
    settings)`: the names of the features, and `RankerSettings`. `x` is (m, len(features)) float32, finite and within ±
    100; list i is the rows [start[i], start[i + 1]).

    A class that derives from this one writes `score`, `learn`, `state` and `restore`. The other methods then send all
    state as a change, and let the click head read the features alone.
    """

    @property
    def width(self) -> int:
        """Number of columns that `hidden` puts behind the features."""
        return 0

    @abstractmethod
    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Scores, (m,) float32, comparable within a list; the greatest is best."""
        ...

    @abstractmethod
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        """Train on lists in their order; `labels` is (m,) float32, 0 where nothing was clicked."""
        ...

    def learn_shown(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray, offset: np.ndarray) -> LearnReport:
        """Train on shown lists; `offset`, (m,) float32: part of each score owed to the position.

        A ranker that does not know of positions learns what they share with its features.
        """
        return self.learn(x, labels, start)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """Input of the click head, (m, len(features) + width) float32.

        These are the features, scaled, and behind them `width` columns of the ranker's own.
        """
        clipped: np.ndarray = np.clip(x, np.float32(-8), np.float32(8))
        return clipped

    def scores_from_hidden(self, x: np.ndarray, hidden: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The bits of `score(x, start)`, from `hidden(x)` where that saves a forward pass."""
        return self.score(x, start)

    @abstractmethod
    def state(self) -> State:
        """All state by name: arrays, as views where possible."""
        ...

    @abstractmethod
    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`."""
        ...

    def convert_state(self, state: State, columns: np.ndarray) -> State | None:
        """Convert the state of the same ranker over other features; None starts untrained.

        `columns`, (len(features),) int64, is the column of each feature in that state, -1 for a new one.
        """
        return None

    def changes(self) -> State:
        """A copy of all state."""
        return {name: array.copy() for name, array in self.state().items()}

    def apply(self, changes: State) -> None:
        """Replace all state by a copy of `changes`."""
        self.restore(changes)


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Training rows of a pointwise model: hashed fields, numbers and labels."""

    keys: np.ndarray  # (n, c) uint64, one key per categorical field, 0 = missing
    numbers: np.ndarray  # (n, d) float32, NaN is not allowed
    label: np.ndarray  # (n,) float32 in [0, 1]
    weight: np.ndarray  # (n,) float32
    start: np.ndarray  # (lists + 1,) int64: rows of a list stand together; one row each = pointwise
    now: int = 0  # event time, ms, by which unused ids expire; 0 = unknown

    def __len__(self) -> int:
        return int(self.label.size)


class PointwiseModel(Stateful, Protocol):
    """Predict the label of each row by itself.

    Predicting leaves the model alone; learning leaves its input alone.
    """

    def predict(self, batch: FeatureRows) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        ...

    def learn(self, batch: FeatureRows) -> None:
        """Train on the rows in one pass, each from the state that the rows before it left."""
        ...
