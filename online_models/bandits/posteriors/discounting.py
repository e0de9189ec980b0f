"""How the past loses weight: with event time, and at once where it is refuted."""

import math
from dataclasses import dataclass

import numpy as np

from stream.jit import kernel

_TICKS_PER_HALF_LIFE = 32  # times per half-life that what was learnt is brought to a later time
_MIN_MISS_RATE = 0.01  # no reward is taken to be surer than this, so that a single miss refutes nothing
_MIN_MEAN = 1e-6  # a mean this near to 0 cannot fall, and one this near to 1 cannot rise
DROP, RISE, CHANGED_AT = range(3)  # what is watched of an arm: two wealths, and the time, ms, when its past was refuted
NEVER_CHANGED = -(2.0**62)
NO_TIMESTAMP = -1  # event time of sums that hold nothing
MAX_TS = 1e14  # ms; nothing is of the year 5000


@dataclass(frozen=True, slots=True)
class Discounting:
    """How fast the past loses weight, and how sure one must be that it is over.

    Every arm carries two bets that its rewards have fallen, or risen, against what it promises. If they have not, a
    bet gains nothing on average, so its wealth passes `patience` once in `patience` rows of an arm at most (the
    e-detectors of Shin, Ramdas and Rinaldo 2022, section 3). When it does, `kept` of the arm's past stays.
    """

    half_life: float = 30 * 86_400.0  # seconds of event time; 0 = nothing fades
    change_threshold: float = 20_000.0  # rows of an arm between false alarms, at least; 0 = never alarmed
    retained_ratio: float = 0.05  # of an arm's past, when it is refuted

    def __post_init__(self) -> None:
        if not 0 <= self.half_life < math.inf:
            raise ValueError(f"half_life must be 0 or a number of seconds, got {self.half_life}")
        if self.change_threshold != 0 and not 1 < self.change_threshold < math.inf:
            raise ValueError(f"patience must be 0 or a number of rows above 1, got {self.change_threshold}")
        if not 0 <= self.retained_ratio < 1:
            raise ValueError(f"kept must be at least 0 and below 1, got {self.retained_ratio}")

    @property
    def rates(self) -> np.ndarray:
        """For kernels: half-life and tick in ms (0 = never), log patience (0 = never), kept."""
        log_threshold = math.log(self.change_threshold) if self.change_threshold else 0.0
        return np.array(
            [1e3 * self.half_life, 1e3 * self.half_life / _TICKS_PER_HALF_LIFE, log_threshold, self.retained_ratio]
        )


@kernel
def advance_clock(stamp: np.ndarray, ts: int, rates: np.ndarray) -> float:
    """What stays of all sums when the clock moves on to the tick before `ts`; 1 until the next, and for the late."""
    half_life, tick = rates[0], rates[1]
    if half_life == 0.0:
        return 1.0
    before, after = stamp[0], np.int64(np.floor(ts / tick) * tick)
    if after <= before:
        return 1.0
    stamp[0] = after
    return 1.0 if before == NO_TIMESTAMP else math.pow(2.0, (before - after) / half_life)


@kernel
def discount_weight(stamp: np.ndarray, ts: int, changed_at: float, weight: float, rates: np.ndarray) -> float:
    """The weight of a row of `ts` in sums that stand for the time `stamp`, as if it had come in time."""
    ratio = rates[3] if float(ts) < changed_at else 1.0
    if rates[0] == 0.0:
        return weight * ratio
    result: float = weight * ratio * math.pow(2.0, (float(ts) - float(stamp[0])) / rates[0])
    return result


@kernel
def _bet(wealth: float, null_mean: float, alternative_mean: float, reward: float) -> float:
    """Log wealth after a bet on `other` against `promised`: a likelihood ratio, linear in a reward from 0 to 1."""
    miss_ratio = (1 - alternative_mean) / (1 - null_mean)
    return max(wealth, 0.0) + math.log(miss_ratio + reward * (alternative_mean / null_mean - miss_ratio))


@kernel
def change_detected(monitor: np.ndarray, mean: float, std: float, reward: float, ts: int, rates: np.ndarray) -> bool:
    """Whether this reward makes it too unlikely that the arm still is what it was; half, or twice, is bet on."""
    if rates[2] == 0.0:
        return False
    lower, upper = min(1.0 - _MIN_MISS_RATE, mean - std), max(_MIN_MEAN, mean + std)
    if lower > _MIN_MEAN:
        monitor[DROP] = _bet(monitor[DROP], lower, 0.5 * lower, reward)
    if upper < 1.0 - _MIN_MEAN:
        monitor[RISE] = _bet(monitor[RISE], upper, min(2.0 * upper, 0.5 + 0.5 * upper), reward)
    if max(monitor[DROP], monitor[RISE]) < rates[2]:
        return False
    monitor[DROP] = monitor[RISE] = 0.0
    monitor[CHANGED_AT] = max(monitor[CHANGED_AT], float(ts))
    return True
