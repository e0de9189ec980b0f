"""String ids for arms, and choices among them that train a bandit as a batch of one row."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from online_models.bandits.protocols import Bandit, RewardBatch
from stream.ids import hash_id, hash_ids
from stream.records.events import validate_id


@dataclass(frozen=True, slots=True)
class Arms:
    """Distinct ids of arms, with their keys; reusable, which spares hashing them again.

    >>> Arms(["a", "b"])
    Arms(ids=('a', 'b'))
    """

    ids: Sequence[str]
    keys: np.ndarray = field(init=False, repr=False, compare=False)  # (n,) uint64

    def __post_init__(self) -> None:
        if isinstance(self.ids, str):
            raise ValueError(f"arms must be a sequence of ids, got the single string {self.ids!r}")
        ids = tuple(self.ids)
        if not ids:
            raise ValueError("arms must hold at least one id, got none")
        for name in ids:
            _check_id(name)
        if len(set(ids)) < len(ids):
            raise ValueError(f"arms must be distinct, got {next(name for name in ids if ids.count(name) > 1)!r} twice")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "keys", hash_ids(ids))

    def __len__(self) -> int:
        return len(self.ids)


def _check_id(name: object) -> None:
    if not isinstance(name, str):
        raise ValueError(f"arms must be strings, got {name!r} of type {type(name).__name__}")
    if error := validate_id("arm", name):
        raise ValueError(error[1])


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen item with its exact probability, and the context and time in which it was chosen."""

    item: str
    propensity: float
    context: np.ndarray = field(repr=False, compare=False)  # (1, width) float64
    ts: int = field(default=0, repr=False)  # event time, ms

    def to_batch(self, bandit: Bandit, reward: float) -> RewardBatch:
        """Build the one row that trains `bandit` on a reward from 0 to 1."""
        if not 0 <= reward <= 1:
            raise ValueError(f"reward must be from 0 to 1, got {reward}")
        arms = bandit.lookup(np.array([hash_id(self.item)], np.uint64))
        if arms[0] < 0:
            raise ValueError(f"item {self.item!r} is not an arm of this bandit; expected an item that it chose")
        return RewardBatch(arms, self.context, np.array([float(reward)]), np.ones(1), np.array([self.ts]))


def to_contexts(context: ArrayLike | None, n_arms: int, width: int) -> np.ndarray:
    """Contexts as (1, width) or (n_arms, width) float64; None stands for a context of width 0.

    >>> to_contexts([1, 0.5], n_arms=3, width=2).tolist()
    [[1.0, 0.5]]
    """
    contexts = np.zeros((1, 0)) if context is None else np.asarray(context, np.float64, order="C")
    if contexts.ndim == 1:
        contexts = contexts[None]
    if contexts.shape not in ((1, width), (n_arms, width)):
        expected = f"have shape ({width},) or ({n_arms}, {width})" if width else "be None"
        got = "None" if context is None else f"shape {np.shape(context)}"
        raise ValueError(f"context must {expected} for this bandit, got {got}")
    if not np.isfinite(contexts).all():
        raise ValueError(f"context must hold finite numbers, got {contexts[~np.isfinite(contexts)][0]}")
    return contexts
