"""Columns that the processes exchange, one micro-batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np

from stream.records.fields import N_USER_KEYS


class EventType(IntEnum):
    """Type of an event; columns store its number, so numbers never change."""

    impression = 0
    view = 1
    click = 2
    like = 3
    dislike = 4
    cart = 5
    purchase = 6
    dwell = 7
    rating = 8


class Kind(IntEnum):
    """Reason for a row in an example block; columns store its number."""

    shown = 0  # an impression: its outcome is not yet known
    action = 1  # an action of a user on one item
    clicked = 2  # an action on an open impression: its list, with the label of the item set
    closed = 3  # an impression after its attribution window: its list with the final labels
    held = 4  # quarantined, or of a forgotten user: nothing trains on it; it is here so that duplicates are recognized
    retracted = 5  # an action is taken back: the user's history around it, and its position in that as `lists.position`
    merged = 6  # an anonymous user joins an account: the history of both, with its positions in `lists`


EVENT_KINDS = (
    Kind.shown,
    Kind.action,
    Kind.held,
    Kind.retracted,
    Kind.merged,
)  # of the one row that each event causes itself
N_CONTEXT = 4  # "name=value" keys of the context of a query


@dataclass(frozen=True, slots=True)
class Columns:
    """Record of numpy arrays; its first field has one entry per row."""

    def __len__(self) -> int:
        size: int = getattr(self, fields(self)[0].name).shape[0]
        return size

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def ragged_starts(lengths: np.ndarray) -> np.ndarray:
    """Start of each run, (n + 1,) int64; run i is [start[i], start[i + 1])."""
    start = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    return start


def flatten_ragged(start: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all entries of the selected runs, and the start of each run among them."""
    lengths = start[rows + 1] - start[rows]
    flat_start = ragged_starts(lengths)
    flat = np.arange(flat_start[-1]) - np.repeat(flat_start[:-1], lengths) + np.repeat(start[rows], lengths)
    return flat, flat_start


@dataclass(frozen=True, slots=True)
class Queries(Columns):
    """State of n users just before n moments: all inputs of a recommendation except the items.

    The history of row i is entries [history_start[i], history_start[i + 1]), oldest first. The items shown to the
    user are entries [shown_start[i], shown_start[i + 1]), oldest first.
    """

    ts: np.ndarray  # (n,) int64, event time, ms
    user: np.ndarray  # (n,) uint64
    surface: np.ndarray  # (n,) uint64, key of the surface, 0 = unknown
    context: np.ndarray  # (n, N_CONTEXT) uint64, keys of "name=value", 0 = none
    session_start: np.ndarray  # (n,) int64, ms; equal to ts when the session is new
    session_depth: np.ndarray  # (n,) int32, actions in the session so far
    rates: np.ndarray  # (n, 9) float32, decayed counts of the user's events by type, half-life one day
    history_start: np.ndarray  # (n + 1,) int64
    history_item: np.ndarray  # (h,) uint64
    history_type: np.ndarray  # (h,) uint8, EventType, flagged for disliked items, see `stream.records.signs`
    history_ts: np.ndarray  # (h,) int64, ms
    shown_start: np.ndarray  # (n + 1,) int64
    shown_item: np.ndarray  # (s,) uint64
    # (n, N_USER_KEYS) uint64, keys of attributes and interests, see `stream.records.fields`; 0 = none
    user_keys: np.ndarray = field(default_factory=lambda: np.zeros((0, N_USER_KEYS), np.uint64))

    def __post_init__(self) -> None:
        if not self.user_keys.size:
            object.__setattr__(self, "user_keys", np.zeros((self.ts.size, N_USER_KEYS), np.uint64))

    def take(self, rows: np.ndarray) -> "Queries":
        """Select rows, in the given order."""
        flat, start = flatten_ragged(self.history_start, rows)
        shown_flat, shown_start = flatten_ragged(self.shown_start, rows)
        return Queries(
            ts=self.ts[rows],
            user=self.user[rows],
            surface=self.surface[rows],
            context=self.context[rows],
            session_start=self.session_start[rows],
            session_depth=self.session_depth[rows],
            rates=self.rates[rows],
            history_start=start,
            history_item=self.history_item[flat],
            history_type=self.history_type[flat],
            history_ts=self.history_ts[flat],
            shown_start=shown_start,
            shown_item=self.shown_item[shown_flat],
            user_keys=self.user_keys[rows],
        )

    def drop_history(self, is_dropped: np.ndarray) -> "Queries":
        """Drop history entries by mask, (h,) bool."""
        if not is_dropped.any():
            return self
        mask = ~is_dropped
        return replace(
            self,
            history_start=ragged_starts(mask)[self.history_start],
            history_item=self.history_item[mask],
            history_type=self.history_type[mask],
            history_ts=self.history_ts[mask],
        )


@dataclass(frozen=True, slots=True)
class CandidateLists(Columns):
    """Lists of items, one per query; list i is entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    item: np.ndarray  # (m,) uint64
    label: np.ndarray  # (m,) float32, reward so far, 0 = none
    position: np.ndarray  # (m,) int16, position in the slate, -1 = not shown
    propensity: np.ndarray  # (m,) float32, NaN = not logged
    price: np.ndarray  # (m,) float32, from the impression's context, NaN = unknown

    def __len__(self) -> int:
        return int(self.start.size) - 1

    def take(self, rows: np.ndarray) -> "CandidateLists":
        flat, start = flatten_ragged(self.start, rows)
        return CandidateLists(
            start, self.item[flat], self.label[flat], self.position[flat], self.propensity[flat], self.price[flat]
        )


@dataclass(frozen=True, slots=True)
class ListView:
    """Lists of some rows of a batch: list i is entries [start[i], start[i + 1])."""

    rows: np.ndarray  # (n,) int64, rows of the batch
    flat: np.ndarray  # (m,) int64, entries of `batch.lists`
    start: np.ndarray  # (n + 1,) int64
    labels: np.ndarray  # (m,) float32

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.start)

    def repeat(self, values: np.ndarray) -> np.ndarray:
        """One value per entry, (m,), from one value per list, (n,)."""
        return np.repeat(values, self.lengths)


EMPTY_VIEW = ListView(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class ExampleBatch(Columns):
    """Joined examples: each row has a kind, a query and a list of items.

    The list of an action has one item. Rows are in the order of the events that caused them.
    """

    kind: np.ndarray  # (n,) uint8, Kind
    event: np.ndarray  # (n,) uint64, key of the event that caused the row, 0 for closed rows
    type: np.ndarray  # (n,) uint8, EventType of the action; impression for shown and closed rows
    ts: np.ndarray  # (n,) int64, event time, ms, of the event that caused the row
    value: np.ndarray  # (n,) float32, the action's value, NaN = none
    sign: np.ndarray  # (n,) int8, -1 for an action of dislike, see `stream.records.signs`
    organic: np.ndarray  # (n,) bool, an action without an open impression
    impression: np.ndarray  # (n,) uint64, key of the impression, 0 = none
    offset: np.ndarray  # (n,) int64, offset of the event that caused the row
    impression_offset: np.ndarray  # (n,) int64, offset of the impression of the list, -1 = none
    version: np.ndarray  # (n,) uint64, key of the model version that served the slate, 0 = unknown
    producer: np.ndarray  # (n,) uint64, key of the producer of the event, 0 = unknown
    queries: Queries
    lists: CandidateLists
    features: np.ndarray  # (m, f) float32, as served; (0, f) = computed at training time
    feature_row: np.ndarray  # (n,) int32, first row of this list in `features`, -1 = not logged

    def take(self, rows: np.ndarray) -> "ExampleBatch":
        """Select rows, in the given order."""
        nested_fields = ("queries", "lists", "features", "feature_row")
        columns = {name: value[rows] for name, value in self.arrays().items() if name not in nested_fields}
        lists = self.lists.take(rows)
        feature_row = self.feature_row[rows]
        lengths = np.where(feature_row >= 0, np.diff(lists.start), 0)
        first = ragged_starts(lengths)
        flat = np.arange(first[-1]) - np.repeat(first[:-1], lengths) + np.repeat(feature_row, lengths)
        return ExampleBatch(
            **columns,
            queries=self.queries.take(rows),
            lists=lists,
            features=self.features[flat],
            feature_row=np.where(feature_row >= 0, first[:-1], -1).astype(np.int32),
        )

    def select(self, kind: Kind) -> ListView:
        """The lists of the rows of one kind."""
        return self.view(np.flatnonzero(self.kind == kind))

    def view(self, rows: np.ndarray) -> ListView:
        """The lists of the given rows, in that order."""
        flat, start = flatten_ragged(self.lists.start, rows)
        return ListView(rows, flat, start, self.lists.label[flat])


def query_rows(batch: ExampleBatch) -> np.ndarray:
    """Row of the query for each row, (n,) int64; usually the row itself.

    An action on a slate uses the query of that slate. At the time of the action, the user has just been shown the
    item: a feature that would leak the label.
    """
    query_row = np.arange(len(batch))
    clicked = np.flatnonzero(batch.kind == Kind.clicked)
    if clicked.size:
        clicked = clicked[np.argsort(batch.event[clicked], kind="stable")]
        index = np.minimum(np.searchsorted(batch.event[clicked], batch.event), clicked.size - 1)
        is_match = (batch.event[clicked[index]] == batch.event) & (batch.kind == Kind.action)
        query_row[is_match] = clicked[index[is_match]]
    return query_row


def concat(batches: Sequence[ExampleBatch]) -> ExampleBatch:
    """Concatenate batches; feature blocks of another width than the first are dropped."""
    if len(batches) == 1:
        return batches[0]
    width = next((batch.features.shape[1] for batch in batches if batch.features.size), 0)
    feature_blocks = [
        batch.features if batch.features.shape[1] == width else np.zeros((0, width), np.float32) for batch in batches
    ]
    shift = ragged_starts(np.array([features.shape[0] for features in feature_blocks]))
    feature_rows = [
        np.where((batch.feature_row >= 0) & (features.size > 0), batch.feature_row + first, -1).astype(np.int32)
        for batch, features, first in zip(batches, feature_blocks, shift, strict=False)
    ]
    return ExampleBatch(
        **_concat_columns(batches, ("queries", "lists", "features", "feature_row")),
        queries=Queries(
            **_concat_columns([batch.queries for batch in batches], ("history_start", "shown_start")),
            history_start=_concat_starts([batch.queries.history_start for batch in batches]),
            shown_start=_concat_starts([batch.queries.shown_start for batch in batches]),
        ),
        lists=CandidateLists(
            **_concat_columns([batch.lists for batch in batches], ("start",)),
            start=_concat_starts([batch.lists.start for batch in batches]),
        ),
        features=np.concatenate(feature_blocks),
        feature_row=np.concatenate(feature_rows),
    )


def _concat_columns(parts: Sequence[Columns], exclude: tuple[str, ...]) -> dict[str, Any]:
    names = [name for name in parts[0].arrays() if name not in exclude]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def _concat_starts(starts: Sequence[np.ndarray]) -> np.ndarray:
    return ragged_starts(np.concatenate([np.diff(start) for start in starts]))
