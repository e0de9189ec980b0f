"""Fills a slate: the best by rank, with some places given to fresh items by chance that is known."""

from dataclasses import dataclass

import numpy as np

from stream.compiled import kernel


@dataclass(frozen=True, slots=True)
class Fresh:
    """Items that have not yet had their share of impressions, and how likely each is to be the best of them."""

    rows: np.ndarray  # (n,) int32, item rows
    chances: np.ndarray  # (n,) float64, sums to 1

    def take(self, chosen: np.ndarray) -> "Fresh":
        return Fresh(self.rows[chosen], self.chances[chosen])

    def among(self, ranked: np.ndarray) -> "Fresh":
        """The same with places in `ranked`, (m,) item rows that hold them all, instead of rows."""
        order = np.argsort(ranked, kind="stable")
        return Fresh(order[np.searchsorted(ranked[order], self.rows)].astype(np.int32), self.chances)


@dataclass(frozen=True, slots=True)
class Placed:
    """A slate: per place the item, the probability that it came there given the places above, and whether by chance."""

    rows: np.ndarray  # (k,) int32
    propensities: np.ndarray  # (k,) float64
    explored: np.ndarray  # (k,) bool


NOTHING_FRESH = Fresh(np.zeros(0, np.int32), np.zeros(0))


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


@kernel
def _absent(rows: np.ndarray, among: np.ndarray, out: np.ndarray) -> None:
    for i in range(rows.size):
        out[i] = not _holds(among, among.size, rows[i])


def absent(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of a few rows are not among others, (n,) bool.

    >>> absent(np.array([3, 5], np.int32), np.array([5, 9], np.int32)).tolist()
    [True, False]
    """
    out = np.ones(rows.size, np.bool_)
    _absent(rows, among, out)
    return out


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


def fill(ranked: np.ndarray, fresh: Fresh, k: int, share: float, rng: np.random.Generator) -> Placed:
    """Give each of k places to the next best item or, with probability `share`, to a fresh one.

    At most ceil(share · k) places go to another item than the next best, so that what exploring costs is bounded. A
    draw that comes out as the next best is no exploring: else the places below would hang on a draw that nobody sees,
    and a propensity would not be the probability given the places above.

    >>> placed = fill(np.array([3, 1]), NOTHING_FRESH, 2, 0.5, np.random.default_rng(0))
    >>> placed.rows.tolist(), placed.propensities.tolist()
    ([3, 1], [1.0, 1.0])
    """
    budget = int(np.ceil(share * k)) if share else 0
    rows, propensities, explored = np.empty(k, np.int32), np.empty(k), np.empty(k, np.bool_)
    filled = _fill(
        ranked, fresh.rows, fresh.chances.copy(), share, budget, rng.random((k, 2)), rows, propensities, explored
    )
    return Placed(rows[:filled], propensities[:filled], explored[:filled])


@kernel
def _fill(
    ranked: np.ndarray, fresh: np.ndarray, chances: np.ndarray, share: float, budget: int, draws: np.ndarray,
    rows: np.ndarray, propensities: np.ndarray, explored: np.ndarray,
) -> int:  # fmt: skip
    """Fill the places; uses up `chances`. Two draws a place: whether by chance, and which."""
    at, spent = 0, 0
    for place in range(rows.size):
        while at < ranked.size and _holds(rows, place, ranked[at]):
            at += 1
        has_best, total = at < ranked.size, chances.sum()
        if not has_best and total <= 0.0:
            return place
        by_chance = (share if spent < budget else 0.0) if has_best else 1.0
        if total <= 0.0:
            by_chance = 0.0
        drawn = draws[place, 0] < by_chance or not has_best
        rows[place] = fresh[_pick(chances, draws[place, 1] * total)] if drawn else ranked[at]
        propensities[place] = 0.0
        for i in range(fresh.size):
            if fresh[i] == rows[place]:
                propensities[place] = by_chance * chances[i] / total if total > 0.0 else 0.0
                chances[i] = 0.0
        explored[place] = not has_best or rows[place] != ranked[at]
        if not explored[place]:
            propensities[place] += 1.0 - by_chance
        propensities[place] = min(1.0, propensities[place])
        spent += explored[place]
    return rows.size


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
