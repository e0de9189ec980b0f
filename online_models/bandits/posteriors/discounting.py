"""How the past loses weight: with event time, and at once where it is refuted."""

import math
from dataclasses import dataclass

import numpy as np

from stream.jit import kernel

_TICKS = 32  # times per half-life that what was learnt is brought to a later time
_SURE = 0.01  # no reward is taken to be surer than this, so that a single miss refutes nothing
_NEVER = 1e-6  # a mean this near to 0 cannot fall, and one this near to 1 cannot rise
DROP, RISE, MOVED = range(3)  # what is watched of an arm: two wealths, and the time, ms, when its past was refuted
NOT_MOVED = -(2.0**62)
NOT_BEGUN = -1  # event time of sums that hold nothing
LAST_TS = 1e14  # ms; nothing is of the year 5000


@dataclass(frozen=True, slots=True)
class Fading:
    """How fast the past loses weight, and how sure one must be that it is over.

    Every arm carries two bets that its rewards have fallen, or risen, against what it promises. If they have not, a
    bet gains nothing on average, so its wealth passes `patience` once in `patience` rows of an arm at most (the
    e-detectors of Shin, Ramdas and Rinaldo 2022, section 3). When it does, `kept` of the arm's past stays.
    """

    half_life: float = 30 * 86_400.0  # seconds of event time; 0 = nothing fades
    patience: float = 20_000.0  # rows of an arm between false alarms, at least; 0 = never alarmed
    kept: float = 0.05  # of an arm's past, when it is refuted

    def __post_init__(self) -> None:
        if not 0 <= self.half_life < math.inf:
            raise ValueError(f"half_life must be 0 or a number of seconds, got {self.half_life}")
        if self.patience != 0 and not 1 < self.patience < math.inf:
            raise ValueError(f"patience must be 0 or a number of rows above 1, got {self.patience}")
        if not 0 <= self.kept < 1:
            raise ValueError(f"kept must be at least 0 and below 1, got {self.kept}")

    @property
    def rates(self) -> np.ndarray:
        """For kernels: half-life and tick in ms (0 = never), log patience (0 = never), kept."""
        patience = math.log(self.patience) if self.patience else 0.0
        return np.array([1e3 * self.half_life, 1e3 * self.half_life / _TICKS, patience, self.kept])


@kernel
def kept_until(stamp: np.ndarray, ts: int, rates: np.ndarray) -> float:
    """What stays of all sums when the clock moves on to the tick before `ts`; 1 until the next, and for the late."""
    half_life, tick = rates[0], rates[1]
    if half_life == 0.0:
        return 1.0
    before, after = stamp[0], np.int64(np.floor(ts / tick) * tick)
    if after <= before:
        return 1.0
    stamp[0] = after
    return 1.0 if before == NOT_BEGUN else math.pow(2.0, (before - after) / half_life)


@kernel
def weight_at(stamp: np.ndarray, ts: int, moved: float, weight: float, rates: np.ndarray) -> float:
    """The weight of a row of `ts` in sums that stand for the time `stamp`, as if it had come in time."""
    kept = rates[3] if float(ts) < moved else 1.0
    if rates[0] == 0.0:
        return weight * kept
    aged: float = weight * kept * math.pow(2.0, (float(ts) - float(stamp[0])) / rates[0])
    return aged


@kernel
def _bet(wealth: float, promised: float, other: float, reward: float) -> float:
    """Log wealth after a bet on `other` against `promised`: a likelihood ratio, linear in a reward from 0 to 1."""
    lost = (1 - other) / (1 - promised)
    return max(wealth, 0.0) + math.log(lost + reward * (other / promised - lost))


@kernel
def is_refuted(watch: np.ndarray, mean: float, spread: float, reward: float, ts: int, rates: np.ndarray) -> bool:
    """Whether this reward makes it too unlikely that the arm still is what it was; half, or twice, is bet on."""
    if rates[2] == 0.0:
        return False
    at_least, at_most = min(1.0 - _SURE, mean - spread), max(_NEVER, mean + spread)
    if at_least > _NEVER:
        watch[DROP] = _bet(watch[DROP], at_least, 0.5 * at_least, reward)
    if at_most < 1.0 - _NEVER:
        watch[RISE] = _bet(watch[RISE], at_most, min(2.0 * at_most, 0.5 + 0.5 * at_most), reward)
    if max(watch[DROP], watch[RISE]) < rates[2]:
        return False
    watch[DROP] = watch[RISE] = 0.0
    watch[MOVED] = max(watch[MOVED], float(ts))
    return True
