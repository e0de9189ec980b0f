"""Fills a slate: the best by rank, with some places given to fresh items by chance that is known."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.policies import Placed
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
    order = ranked.tolist()
    pool = {row: chance for row, chance in zip(fresh.rows.tolist(), fresh.chances.tolist(), strict=True) if chance > 0}
    rows: list[int] = []
    taken: set[int] = set()
    propensities: list[float] = []
    explored: list[bool] = []
    at = 0
    while len(rows) < k:
        while at < len(order) and order[at] in taken:
            at += 1
        best = order[at] if at < len(order) else None
        total = sum(pool.values())
        by_chance = _by_chance(share if sum(explored) < budget else 0.0, best is not None, total)
        if best is None and by_chance == 0:
            break
        draws = bool(rng.random() < by_chance)
        chosen = _draw(pool, total, rng) if draws or best is None else best
        drawn = by_chance * pool.get(chosen, 0.0) / total if by_chance else 0.0
        propensities.append(min(1.0, drawn + (1 - by_chance if chosen == best else 0.0)))
        rows.append(chosen)
        taken.add(chosen)
        explored.append(chosen != best)
        pool.pop(chosen, None)
    return Placed(np.array(rows, np.int32), np.array(propensities), np.array(explored, np.bool_))


def _by_chance(share: float, has_best: bool, total: float) -> float:
    if total <= 0:
        return 0.0
    return share if has_best else 1.0


def _draw(pool: dict[int, float], total: float, rng: np.random.Generator) -> int:
    at = rng.random() * total
    for row, chance in pool.items():
        at -= chance
        if at < 0:
            return row
    return row
