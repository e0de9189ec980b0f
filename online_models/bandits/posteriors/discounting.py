"""Discount old rewards by event time, and drop the history of an arm whose rate has changed."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream.jit import kernel

_TICKS_PER_HALF_LIFE = 32  # discounting steps per half-life
_MIN_MISS_RATE = 0.01  # smallest miss rate under the null hypothesis, so that a single miss refutes nothing
_MIN_MEAN = 1e-6  # a mean this near to 0 cannot fall, and one this near to 1 cannot rise
DROP, RISE, CHANGED_AT = range(3)  # monitor columns: log wealth of both bets, and the time of the last change, ms
NEVER_CHANGED = -(2.0**62)
NO_TIMESTAMP = -1  # time of empty sums
MAX_TS = 1e14  # ms, beyond the year 5000


class DiscountRates(NamedTuple):
    """Discounting inside kernels; 0 disables either part."""

    half_life_ms: float
    tick_ms: float
    log_threshold: float
    retained_ratio: float


@dataclass(frozen=True, slots=True)
class Discounting:
    """Speed at which rewards lose weight, and evidence at which an arm's history is dropped.

    Null hypothesis: an arm's rewards still have the mean that its posterior claims.
    Statistic: per arm, the wealth of a bet that the mean fell and of one that it rose; either starts again from 1
    whenever it is below (the e-detectors of Shin, Ramdas and Rinaldo 2022, section 3).
    Threshold: `change_threshold`, which a true null passes once in as many rewards of an arm at most.
    Alarm: the rate of the arm changed; `retained_ratio` of its sums remains.
    """

    half_life: float = 30 * 86_400.0  # seconds of event time; 0 = no discounting
    change_threshold: float = 20_000.0  # least mean number of rewards of an arm between false alarms; 0 = no test
    retained_ratio: float = 0.05  # of an arm's sums after an alarm

    def __post_init__(self) -> None:
        if not 0 <= self.half_life < math.inf:
            raise ValueError(f"half_life must be 0 or a number of seconds, got {self.half_life}")
        if self.change_threshold != 0 and not 1 < self.change_threshold < math.inf:
            raise ValueError(f"change_threshold must be 0 or a number of rewards above 1, got {self.change_threshold}")
        if not 0 <= self.retained_ratio < 1:
            raise ValueError(f"retained_ratio must be at least 0 and below 1, got {self.retained_ratio}")

    @property
    def rates(self) -> np.ndarray:
        """Fields of `DiscountRates`, (4,) float64, as kernels take them."""
        half_life_ms = 1e3 * self.half_life
        tick_ms = half_life_ms / _TICKS_PER_HALF_LIFE
        log_threshold = math.log(self.change_threshold) if self.change_threshold else 0.0
        return np.array([half_life_ms, tick_ms, log_threshold, self.retained_ratio])


@kernel
def unpack_rates(rates: np.ndarray) -> DiscountRates:
    return DiscountRates(rates[0], rates[1], rates[2], rates[3])


@kernel
def advance_clock(stamp: np.ndarray, ts: int, rates: DiscountRates) -> float:
    """Move the clock to the tick before `ts`; return the factor for all sums, 1 if it stays."""
    if rates.half_life_ms == 0.0:
        return 1.0
    before, after = stamp[0], np.int64(np.floor(ts / rates.tick_ms) * rates.tick_ms)
    if after <= before:
        return 1.0
    stamp[0] = after
    return 1.0 if before == NO_TIMESTAMP else math.pow(2.0, (before - after) / rates.half_life_ms)


@kernel
def discount_weight(stamp: np.ndarray, ts: int, changed_at: float, weight: float, rates: DiscountRates) -> float:
    """Weight of a row of time `ts` in sums of time `stamp`, as if the row had arrived on time."""
    ratio = rates.retained_ratio if float(ts) < changed_at else 1.0
    if rates.half_life_ms == 0.0:
        return weight * ratio
    result: float = weight * ratio * math.pow(2.0, (float(ts) - float(stamp[0])) / rates.half_life_ms)
    return result


@kernel
def _bet(log_wealth: float, null_mean: float, alternative_mean: float, reward: float) -> float:
    """Log wealth after a bet on the alternative: a likelihood ratio, linear in the reward."""
    miss_ratio = (1 - alternative_mean) / (1 - null_mean)
    return max(log_wealth, 0.0) + math.log(miss_ratio + reward * (alternative_mean / null_mean - miss_ratio))


@kernel
def change_detected(monitor: np.ndarray, mean: float, std: float, reward: float, ts: int, rates: DiscountRates) -> bool:
    """Bet a reward on half and on twice the mean; at the threshold reset and return True."""
    if rates.log_threshold == 0.0:
        return False
    lower, upper = min(1.0 - _MIN_MISS_RATE, mean - std), max(_MIN_MEAN, mean + std)
    if lower > _MIN_MEAN:
        monitor[DROP] = _bet(monitor[DROP], lower, 0.5 * lower, reward)
    if upper < 1.0 - _MIN_MEAN:
        monitor[RISE] = _bet(monitor[RISE], upper, min(2.0 * upper, 0.5 + 0.5 * upper), reward)
    if max(monitor[DROP], monitor[RISE]) < rates.log_threshold:
        return False
    monitor[DROP] = monitor[RISE] = 0.0
    monitor[CHANGED_AT] = max(monitor[CHANGED_AT], float(ts))
    return True
