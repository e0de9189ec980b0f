"""Items with fixed positions in a slate."""

from dataclasses import dataclass

import numpy as np

from serving import metrics
from serving.pipeline.schemas import RequestContext
from serving.replica.replica import Replica
from serving.rules.language import Pin
from stream.ids import hash_ids


class RuleConflict(ValueError):
    """Rules of a request that contradict each other or the catalog; the text names both."""


@dataclass(frozen=True, slots=True)
class PinnedItems:
    """Positions of a slate and the items in them."""

    positions: np.ndarray  # (p,) int64
    rows: np.ndarray  # (p,) int32, item rows


NO_PINS = PinnedItems(np.zeros(0, np.int64), np.zeros(0, np.int32))


def find_pins(replica: Replica, context: RequestContext, excluded_rows: np.ndarray) -> PinnedItems:
    """Pinned items of a request that may be shown.

    `RuleConflict` if the request pins another one; pins of the surface are skipped and counted.
    """
    pins = context.rules.pins if context.rules else None
    if not pins or context.request.page_token is not None:
        return NO_PINS  # the first page has the pinned items
    request = context.request
    rows = replica.model.items.lookup(hash_ids([pin.item_id for pin in pins]))
    causes = _find_causes(replica, context, rows, excluded_rows)
    if request.rules is not None and request.rules.pins is not None:
        for pin, cause in zip(pins, causes, strict=True):
            if cause:
                raise RuleConflict(_describe(pin, cause))
        keep = np.ones(rows.size, np.bool_)
    else:
        keep = np.array([not cause and pin.position < request.size for pin, cause in zip(pins, causes, strict=True)])
        metrics.pins_skipped.inc(int(np.count_nonzero(~keep)))
    return PinnedItems(np.array([pin.position for pin in pins], np.int64)[keep], rows[keep])


def find_requested_pins(replica: Replica, context: RequestContext) -> PinnedItems:
    """Pinned items of a request that ranks exactly its `candidates`."""
    if not context.rules or not context.rules.pins:
        return NO_PINS
    keys = context.request.excluded_keys
    if context.request.hide is not None and context.hidden is not None:
        keys = np.concatenate([keys, context.hidden])
    return find_pins(replica, context, replica.model.items.lookup(keys))


def _find_causes(replica: Replica, context: RequestContext, rows: np.ndarray, excluded_rows: np.ndarray) -> list[str]:
    """Reason that each of n items may not be shown, "" if it may."""
    request = context.request
    is_available = (rows >= 0) & (replica.eligible[rows] == 1)
    passes = np.zeros(rows.size, np.bool_)
    passes[replica.find_passing(request.filters, rows)] = True
    is_candidate = np.ones(rows.size, np.bool_)
    if request.candidates is not None:
        is_candidate = np.isin(rows, replica.model.items.lookup(hash_ids(request.candidates)))
    hidden_by = "the user's earlier actions hide" if context.hidden is None else "hide excludes"
    masks = {
        "no available item has this id": is_available,
        "filters do not let it pass": passes,
        f"{hidden_by} it": ~np.isin(rows, excluded_rows),
        "candidates does not name it": is_candidate,
    }
    failed = ~np.array(list(masks.values()))
    texts = np.array([*masks, ""])
    first = np.where(failed.any(axis=0), failed.argmax(axis=0), len(masks))
    causes: list[str] = texts[first].tolist()
    return causes


def _describe(pin: Pin, cause: str) -> str:
    return f"rules.pins has item {pin.item_id!r} at position {pin.position}, but {cause}; remove one of them"
