"""Add the items of a basket to the history of a query."""

from dataclasses import replace

import numpy as np

from stream.records.batches import EventType
from stream.users.profiles import Profile


def add_basket(profile: Profile, keys: np.ndarray, ts: int) -> Profile:
    """Profile after n items, (n,) uint64 keys, went into the cart at event time `ts`, ms.

    All retrievers and features see a basket as they see a history: co-visits of its items, and the session. The profile
    is for one query; it has no event ids for these actions.
    """
    return replace(
        profile,
        item=np.concatenate([profile.item, keys]),
        type=np.concatenate([profile.type, np.full(keys.size, EventType.cart, np.uint8)]),
        ts=np.concatenate([profile.ts, np.full(keys.size, ts)]),
    )
