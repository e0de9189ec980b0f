"""Items that a user's earlier actions hide."""

from collections.abc import Sequence

import numpy as np

from serving.rules.language import ActionType, HiddenActions, Hide
from stream.records.batches import EventType
from stream.records.signs import is_disliked, plain_types
from stream.users.owned_items import OWNING
from stream.users.profiles import Profile


def find_hidden(profile: Profile, hide: Hide, ts: int, pending_items: np.ndarray) -> np.ndarray:
    """Keys, (n,) uint64, of items with a hidden action at event time `ts`, ms.

    Disliked items are always hidden, and so are `pending_items`: those of acknowledged actions that the profile does
    not have yet. The history has the latest actions. Owned items older than these are hidden if a type that makes an
    item owned is hidden for good.
    """
    types, is_hidden = plain_types(profile.type), is_disliked(profile.type)
    for actions in map(_to_actions, hide):
        is_match = np.isin(types, _type_numbers(actions.types))
        if actions.max_age is not None:
            is_match &= profile.ts > ts - 1000 * actions.max_age
        is_hidden |= is_match
    parts = [profile.item[is_hidden], pending_items]
    if _hides_owned(hide):
        parts.append(np.setdiff1d(profile.interacted[: profile.owned_size], profile.item))
    return np.unique(np.concatenate(parts))


def _to_actions(element: ActionType | HiddenActions) -> HiddenActions:
    return element if isinstance(element, HiddenActions) else HiddenActions([element])


def _type_numbers(types: Sequence[ActionType]) -> np.ndarray:
    return np.array([EventType[name] for name in types], np.uint8)


def _hides_owned(hide: Hide) -> bool:
    """Return True if a type that makes an item owned is hidden for good."""
    return any(
        actions.max_age is None and OWNING[_type_numbers(actions.types)].any() for actions in map(_to_actions, hide)
    )
