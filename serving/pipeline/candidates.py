"""Which items may stand on a slate: what the channels find, less what is hidden from a person or filtered out."""

from collections.abc import Sequence

import numpy as np

from online_models.model import Stack
from online_models.retrievers.candidates import Found
from online_models.retrievers.top_k import Hidden
from online_models.state.item_table import People
from serving.pipeline.schemas import Filters, Question
from serving.replica.replica import Replica
from stream.ids import keys_of
from stream.records.batches import offsets_of
from stream.users.profiles import Profile

_NONE = np.zeros(0, np.uint64)


def hidden_from(stack: Stack, questions: Sequence[Question], profiles: Sequence[Profile]) -> Hidden:
    """What each person has met, unless repeats are welcome, and what each question excludes."""
    met = [_NONE if one.repeats else profile.met for one, profile in zip(questions, profiles, strict=True)]
    parts = [
        np.concatenate([keys, keys_of(one.exclude)]) if one.exclude else keys
        for one, keys in zip(questions, met, strict=True)
    ]
    return Hidden(offsets_of(np.array([part.size for part in parts])), stack.items.find(np.concatenate(parts)))


def candidates_of(
    replica: Replica,
    questions: Sequence[Question],
    people: People,
    hidden: Hidden,
    fresh: np.ndarray,
    per_channel: int,
    most: int,
) -> Found:
    """At most `most` candidates for each question, but never fewer than it asks for while there are any.

    `fresh`: item rows that are found for everybody.
    """
    found = cut(replica.stack.candidates(people, per_channel, replica.eligible, hidden, fresh), most)
    lengths = np.diff(found.start)
    if not any(one.filters for one in questions) and all(one.size <= lengths[i] for i, one in enumerate(questions)):
        return found
    parts = [_fitted(replica, one, found, hidden, i, most) for i, one in enumerate(questions)]
    rows, channels = zip(*parts, strict=True)
    return Found(offsets_of(np.array([row.size for row in rows])), np.concatenate(rows), np.concatenate(channels))


def given(stack: Stack, questions: Sequence[Question]) -> tuple[Found, list[str]]:
    """Exactly the items asked for, once each, but for what the question excludes or filters out; with their ids."""
    names, lengths = [], []
    for one in questions:
        wanted = [name for name in dict.fromkeys(one.candidates or ()) if name not in set(one.exclude)]
        fits = _fits(stack, one.filters, stack.items.find(keys_of(wanted)))
        names += [wanted[i] for i in fits.tolist()]
        lengths.append(fits.size)
    rows = stack.items.find(keys_of(names))
    return Found(offsets_of(np.array(lengths)), rows, np.zeros(rows.size, np.uint16)), names


def cut(found: Found, most: int) -> Found:
    """The first `most` candidates of each list."""
    lengths = np.diff(found.start)
    if lengths.max(initial=0) <= most:
        return found
    kept = np.arange(found.row.size) - np.repeat(found.start[:-1], lengths) < most
    return Found(offsets_of(np.minimum(lengths, most)), found.row[kept], found.channels[kept])


def _fitted(
    replica: Replica, question: Question, found: Found, hidden: Hidden, i: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """What passes the question's filters, and where that is too little for a slate whatever else may be shown."""
    stack, span = replica.stack, slice(found.start[i], found.start[i + 1])
    fits = _fits(stack, question.filters, found.row[span])
    rows, channels = found.row[span][fits], found.channels[span][fits]
    if rows.size >= question.size:
        return rows, channels
    others = np.flatnonzero(replica.eligible[: len(stack.items)]).astype(np.int32)
    others = np.setdiff1d(others, hidden.row[hidden.start[i] : hidden.start[i + 1]])
    others = np.setdiff1d(others[_fits(stack, question.filters, others)], rows)[: max(question.size, most)]
    return np.concatenate([rows, others]), np.concatenate([channels, np.zeros(others.size, np.uint16)])


def _fits(stack: Stack, filters: Filters | None, rows: np.ndarray) -> np.ndarray:
    """Places of the rows that pass the filters; an item never heard of passes none."""
    if filters is None:
        return np.arange(rows.size)
    catalogue = stack.items.catalogue
    fits = rows >= 0
    if filters.categories is not None:
        wanted = keys_of([name for name in filters.categories if name])
        fits &= np.isin(catalogue["categories"][rows], wanted).any(axis=1)
    price = catalogue["price"][rows]
    if filters.min_price is not None:
        fits &= price >= _as_stored(filters.min_price)
    if filters.max_price is not None:
        fits &= price <= _as_stored(filters.max_price)
    return np.flatnonzero(fits)


def _as_stored(price: float) -> np.float32:
    """A price as the catalogue's column holds it, so that a bound lets through the item of that very price."""
    return np.float32(max(-1e30, min(1e30, price)))
