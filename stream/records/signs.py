"""Signs of actions, +1 for interest and -1 for dislike, and their flag in histories."""

import numpy as np

from stream.records.batches import EventType

_DISLIKED = 0x80  # flag in the types of a history; `EventType.dislike` needs none


def action_signs(types: np.ndarray, values: np.ndarray, disliked_stars: float) -> np.ndarray:
    """Signs of events, (n,) int8: -1 for a dislike and for a rating of at most `disliked_stars`.

    >>> action_signs(np.array([2, 4, 8, 8], np.uint8), np.array([np.nan, np.nan, 1, 5], np.float32), 2.0).tolist()
    [1, -1, -1, 1]
    """
    is_low = (types == EventType.rating) & (values <= disliked_stars)
    return np.where(is_low, np.int8(-1), type_signs(types))


def type_signs(types: np.ndarray) -> np.ndarray:
    """Signs, (n,) int8, of actions of which only the type is known."""
    return np.where(types == EventType.dislike, np.int8(-1), np.int8(1))


def history_types(types: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Types as a history holds them, (n,) uint8: those of disliked items have a flag."""
    is_flagged = (signs < 0) & (types != EventType.dislike)
    return np.where(is_flagged, types | np.uint8(_DISLIKED), types)


def plain_types(types: np.ndarray) -> np.ndarray:
    """Types of a history without the flag, (n,) uint8."""
    plain: np.ndarray = types & np.uint8(_DISLIKED - 1)
    return plain


def is_disliked(types: np.ndarray) -> np.ndarray:
    """Return True for each entry of a history, (n,) bool, whose item the user disliked."""
    mask: np.ndarray = (types == EventType.dislike) | (types >= _DISLIKED)
    return mask
