"""Rate limits on the actions of one user, by event time and that user's events alone."""

from dataclasses import dataclass

import numpy as np

from stream.clock import MINUTE_MS
from stream.config import GuardSettings
from stream.jit import kernel

DETECTORS = ("", "flood", "speed", "forged_impression", "shilling")  # by violation code
FLOOD, SPEED, FORGED_IMPRESSION, BANNED = 1, 2, 3, 4
# No violation of a limit: the event is from before the user was forgotten, was taken back before it arrived, or
# lacks the consent of its user.
FORGOTTEN, RETRACTED, WITHOUT_CONSENT = 5, 6, 7
_ACTIONS, _REPEATS, _UNSEEN_SLATES = range(3)  # columns of `minute_counts`, half-life one minute
_COUNT_PER_RATE = 1 / np.log(2)  # limit of the decayed count at a steady rate of one action per minute


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Decayed counts above which actions are quarantined: repeats, all, unseen slates.

    >>> rate_limits_from_settings(GuardSettings(max_repeated_actions_per_minute=100)).limits.round()
    array([ 144., 8656.,   87.])
    """

    limits: np.ndarray  # (3,) float64


def rate_limits_from_settings(guard: GuardSettings) -> RateLimits:
    if not guard.enabled:
        return UNLIMITED
    rates = (
        guard.max_repeated_actions_per_minute,
        guard.max_total_actions_per_minute,
        guard.max_unseen_slate_actions_per_minute,
    )
    return RateLimits(np.array(rates) * _COUNT_PER_RATE)


UNLIMITED = RateLimits(np.full(3, np.inf))


@kernel
def check_limits(
    row: int,
    ts: int,
    is_repeat: bool,
    is_forged: bool,
    minute_counts: np.ndarray,
    minute_counts_ts: np.ndarray,
    limits: np.ndarray,
) -> int:
    """Count an action and return the code of its violation, 0 for none.

    A user above a limit stays there until the rate falls: every further action counts as another repeat. Otherwise a
    quarantined flood, which never enters the history, would look like a first click again.
    """
    if ts > minute_counts_ts[row]:
        decay = np.float32(0.5 ** ((ts - minute_counts_ts[row]) / MINUTE_MS))
        minute_counts_ts[row] = ts
        for c in range(minute_counts.shape[1]):
            minute_counts[row, c] *= decay
    minute_counts[row, _ACTIONS] += np.float32(1)
    if is_repeat or minute_counts[row, _REPEATS] > limits[0]:
        minute_counts[row, _REPEATS] += np.float32(1)
    if is_forged or minute_counts[row, _UNSEEN_SLATES] > limits[2]:
        minute_counts[row, _UNSEEN_SLATES] += np.float32(1)
    half = minute_counts[row, _ACTIONS] / 2
    if minute_counts[row, _REPEATS] > limits[0] and minute_counts[row, _REPEATS] > half:
        return FLOOD
    if minute_counts[row, _UNSEEN_SLATES] > limits[2] and minute_counts[row, _UNSEEN_SLATES] > half:
        return FORGED_IMPRESSION
    if minute_counts[row, _ACTIONS] > limits[1]:
        return SPEED
    return 0
