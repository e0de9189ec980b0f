"""Fills a slate: the best by rank, with some places given to fresh items by chance that is known."""

from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.policies.policy import Placed
from online_models.bandits.protocols import Judged
from stream.jit import kernel

_NONE = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Items that have not yet had their share of impressions, and how likely each is to be drawn of them."""

    rows: np.ndarray  # (n,) int64, as in what is ranked
    chances: np.ndarray  # (n,) float64, sums to 1
    share: float = 0.0  # of the places, that may be drawn
    loss: float = 0.0  # clicks that each drawn place is expected to lose
    told: np.ndarray = field(default_factory=lambda: _NONE)  # (n,) float64, means before their own counts spoke
    judged: Judged = field(default_factory=lambda: Judged(_NONE, _NONE))  # of n items, by which they are drawn


@dataclass(frozen=True, slots=True)
class Chosen:
    """A slate, and how likely whatever could have come to each place was: what its propensities are proved by."""

    placed: Placed
    told: np.ndarray  # (k, n + 1) float64: of each fresh item, and of the next best that is not one
    arms: np.ndarray  # (k,) int64, which of those came


NOTHING_FRESH = Fresh(np.zeros(0, np.int64), _NONE)


@kernel
def _least_shown(shown: np.ndarray, eligible: np.ndarray, held: np.ndarray, filled: np.ndarray) -> None:
    """The newest rows of each number of impressions; ends as soon as nothing better can come."""
    for row in range(shown.size - 1, -1, -1):
        times = shown[row]
        if times < filled.size and eligible[row] and filled[times] < held.shape[1]:
            held[times, filled[times]] = row
            filled[times] += 1
            if filled[0] == held.shape[1]:
                return


def least_shown(shown: np.ndarray, eligible: np.ndarray, budget: int, count: int) -> np.ndarray:
    """Rows of up to `count` eligible items that were shown less than `budget` times, least first, of equals the newest.

    `shown` is by row, (n,) int32.

    >>> least_shown(np.array([0, 9, 1, 0], np.int32), np.ones(4, np.uint8), budget=5, count=3).tolist()
    [3, 0, 2]
    """
    held, filled = np.empty((budget, count), np.int32), np.zeros(budget, np.int64)
    _least_shown(shown, eligible, held, filled)
    rows: np.ndarray = held[np.arange(count) < filled[:, None]][:count]
    return rows


def fill(ranked: np.ndarray, fresh: Fresh, k: int, rng: np.random.Generator) -> Chosen:
    """Give each of k places to the next best item or, with the probability `fresh.share`, to a fresh one.

    At most ceil(share · k) places go to another item than the next best, so that what exploring costs is bounded. A
    draw that comes out as the next best is no exploring: else the places below would hang on a draw that nobody sees,
    and a propensity would not be the probability given the places above.

    >>> chosen = fill(np.array([3, 1]), NOTHING_FRESH, 2, np.random.default_rng(0))
    >>> chosen.placed.rows.tolist(), chosen.placed.propensities.tolist()
    ([3, 1], [1.0, 1.0])
    """
    share = fresh.share
    budget = int(np.ceil(share * k)) if share else 0
    rows, explored, told, arms, propensities = _fill(
        ranked, fresh.rows, fresh.chances, share, budget, rng.random((k, 2))
    )
    return Chosen(Placed(rows, propensities, explored), told, arms)


@kernel
def _fill(
    ranked: np.ndarray, fresh: np.ndarray, given: np.ndarray, share: float, budget: int, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fill the places. Two draws a place: whether by chance, and which."""
    k, chances = draws.shape[0], given.copy()
    rows, explored, arms = np.empty(k, np.int64), np.empty(k, np.bool_), np.empty(k, np.int64)
    told, propensities = np.zeros((k, fresh.size + 1)), np.empty(k)
    at, spent, rest, filled = 0, 0, fresh.size, 0
    for place in range(k):
        while at < ranked.size and _holds(rows, place, ranked[at]):
            at += 1
        has_best, total = at < ranked.size, chances.sum()
        if not has_best and total <= 0.0:
            break
        by_chance = (share if spent < budget else 0.0) if has_best else 1.0
        if total <= 0.0:
            by_chance = 0.0
        best = rest
        for i in range(rest):
            if has_best and fresh[i] == ranked[at]:
                best = i
            told[place, i] = by_chance * (chances[i] / total) if total > 0.0 else 0.0
        told[place, best] += 1.0 - by_chance
        drawn = draws[place, 0] < by_chance or not has_best
        arms[place] = _pick(chances, draws[place, 1] * total) if drawn else best
        rows[place] = fresh[arms[place]] if arms[place] < rest else ranked[at]
        if arms[place] < rest:
            chances[arms[place]] = 0.0
        explored[place] = arms[place] != best or not has_best
        spent += explored[place]
        propensities[place] = min(1.0, told[place, arms[place]])
        filled += 1
    return rows[:filled], explored[:filled], told[:filled], arms[:filled], propensities[:filled]


@kernel
def _holds(rows: np.ndarray, size: int, row: int) -> bool:
    found = False
    for i in range(size):
        found |= rows[i] == row
    return found


@kernel
def _pick(chances: np.ndarray, at: float) -> int:
    """The entry in which `at`, from 0 to the sum of all, lies."""
    last = -1
    for i in range(chances.size):
        if chances[i] > 0.0:
            last = i
            at -= chances[i]
            if at < 0.0:
                return i
    return last
