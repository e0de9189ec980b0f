"""The actor screen: which actions of a person are poison, judged by event time and by that person's events alone."""

from dataclasses import dataclass

import numpy as np

from stream.config import Guard
from stream.jit import kernel

# What speaks against an event; the number is what kernels carry, so it never changes.
DETECTORS = ("", "flood", "speed", "forged", "pumping")
FLOOD, SPEED, FORGED, BARRED = 1, 2, 3, 4
MINUTE_MS = 60_000.0
_ACTED, _REPEATED, _UNSHOWN = range(3)  # what `pace` counts, with a half-life of one minute
_PER_RATE = 1 / np.log(2)  # a steady rate per minute, times this, is the decayed count that it leads to


@dataclass(frozen=True, slots=True)
class Screen:
    """Decayed counts above which a person's actions are held back: those of floods, of speed, of forged slates.

    >>> screen_of(Guard(flood=100)).limits.round()
    array([ 144., 8656.,   87.])
    """

    limits: np.ndarray  # (3,) float64


def screen_of(guard: Guard) -> Screen:
    if not guard.enabled:
        return OPEN
    return Screen(np.array([guard.flood, guard.speed, guard.forged]) * _PER_RATE)


OPEN = Screen(np.full(3, np.inf))  # lets everything pass


@kernel
def judge(
    row: int, ts: int, repeats: bool, forged: bool, pace: np.ndarray, paced: np.ndarray, limits: np.ndarray
) -> int:
    """What speaks against an action, 0 for nothing; it is counted in either case.

    Who is over a limit stays there until they have calmed down: all they do counts as more of the same. Otherwise a
    flood that is held back, and so never enters the history, would look like a first click again.
    """
    if ts > paced[row]:
        fade = np.float32(0.5 ** ((ts - paced[row]) / MINUTE_MS))
        paced[row] = ts
        for c in range(pace.shape[1]):
            pace[row, c] *= fade
    pace[row, _ACTED] += np.float32(1)
    if repeats or pace[row, _REPEATED] > limits[0]:
        pace[row, _REPEATED] += np.float32(1)
    if forged or pace[row, _UNSHOWN] > limits[2]:
        pace[row, _UNSHOWN] += np.float32(1)
    half = pace[row, _ACTED] / 2
    if pace[row, _REPEATED] > limits[0] and pace[row, _REPEATED] > half:
        return FLOOD
    if pace[row, _UNSHOWN] > limits[2] and pace[row, _UNSHOWN] > half:
        return FORGED
    if pace[row, _ACTED] > limits[1]:
        return SPEED
    return 0
