"""Decode and validate the records of one partition into columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from stream.ids import NO_KEY, hash_id, hash_ids, partitions_for_ids
from stream.logs import Records
from stream.records.batches import N_CONTEXT, CandidateLists, Columns, EventType, flatten_ragged, ragged_starts
from stream.records.dead_letters import RejectedEvent, describe_misplaced
from stream.records.events import (
    ATTACH,
    RETRACT,
    RETRACTIONS,
    TYPE_NUMBERS,
    Event,
    Limits,
    Rejection,
    decode_event,
    decode_events,
    parse_record,
    shown_items,
    validate,
)
from stream.records.feature_codec import decode_features
from stream.records.signs import action_signs

NO_RETRACTION, LATEST_ACTION = 0, 1  # LATEST_ACTION: the user's latest action of this type on this item
_NO_CONTEXT = [""] * N_CONTEXT
# First bytes of the key of a record that was released from quarantine. Ids hold no control characters, so no producer
# can write such a key over HTTP, and no event_id equals that of a released event.
RELEASED_KEY_PREFIX = b"\x01released\x01"


@dataclass(frozen=True, slots=True)
class EventBatch(Columns):
    """Events of one partition in log order, with one list of items per event."""

    offset: np.ndarray  # (n,) int64
    type: np.ndarray  # (n,) uint8, EventType; of a retraction, that of the action to take back
    ts: np.ndarray  # (n,) int64, event time, ms
    event: np.ndarray  # (n,) uint64
    user: np.ndarray  # (n,) uint64
    item: np.ndarray  # (n,) uint64, 0 = none
    impression: np.ndarray  # (n,) uint64, 0 = none
    surface: np.ndarray  # (n,) uint64, 0 = none
    context: np.ndarray  # (n, N_CONTEXT) uint64
    version: np.ndarray  # (n,) uint64, 0 = none
    producer: np.ndarray  # (n,) uint64, 0 = none
    value: np.ndarray  # (n,) float32, NaN = none
    sign: np.ndarray  # (n,) int8, see `stream.records.signs`
    retraction: np.ndarray  # (n,) uint64, key of the event to take back, LATEST_ACTION, or NO_RETRACTION
    is_released: np.ndarray  # (n,) bool, released from quarantine by an operator: exempt from rate limits
    lists: CandidateLists  # the items of an impression, or the one item of an action
    features: np.ndarray  # (rows, f) float32, as served
    feature_row: np.ndarray  # (n,) int32, first row in `features`, -1 = none

    def take(self, rows: np.ndarray) -> "EventBatch":
        """Select rows, in the given order; `features` stays whole."""
        nested_fields = ("lists", "features")
        columns = {name: value[rows] for name, value in self.arrays().items() if name not in nested_fields}
        return EventBatch(**columns, lists=self.lists.take(rows), features=self.features)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Valid events of a micro-batch, as columns and as objects, and the rejected events."""

    batch: EventBatch
    events: Sequence[Event]  # one per row of the batch, with its original ids
    rejected: Sequence[RejectedEvent]
    locations: Sequence[tuple[int, int]]  # of each row: index of its record, index in the record's array
    records: Records
    n_without_consent: int = 0  # valid events that were dropped

    def take(self, rows: np.ndarray) -> "DecodedBatch":
        """Select rows, in the given order."""
        indices: list[int] = rows.tolist()
        return DecodedBatch(
            self.batch.take(rows),
            [self.events[i] for i in indices],
            self.rejected,
            [self.locations[i] for i in indices],
            self.records,
            self.n_without_consent,
        )

    def reject(self, row: int, rejection: Rejection) -> RejectedEvent:
        """Rejected event of a row."""
        return RejectedEvent(int(self.batch.offset[row]), self.locations[row][1], rejection, self.raw_event(row))

    def raw_event(self, row: int) -> bytes:
        """Bytes of the event of a row."""
        n, index = self.locations[row]
        return parse_record(self.records.values[n], _NO_LIMITS)[index][1]


class _ParsedRecords(NamedTuple):
    events: list[Event]
    locations: list[tuple[int, int]]  # see DecodedBatch
    rejected: list[RejectedEvent]


_NO_LIMITS = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)


def decode_records(records: Records, limits: Limits) -> DecodedBatch:
    """Parse records, and turn the valid events with consent into columns.

    The age of an event is measured from the append time of its record, so that a replay gives the same result.
    """
    parsed = _parse_single_events(records, limits) or _parse_each(records, limits)
    valid, n_without_consent = _drop_without_consent(_reject_invalid(parsed, records, limits))
    offsets = [records.offsets[n] for n, _ in valid.locations]
    batch = _build_batch(valid.events, offsets, _find_released(records, valid.locations), limits.disliked_stars)
    return DecodedBatch(batch, valid.events, valid.rejected, valid.locations, records, n_without_consent)


def _drop_without_consent(parsed: _ParsedRecords) -> tuple[_ParsedRecords, int]:
    """Drop the events whose user does not consent; also returns their number."""
    kept = [i for i, event in enumerate(parsed.events) if event.consent]
    n_dropped = len(parsed.events) - len(kept)
    if not n_dropped:
        return parsed, 0
    events, locations = [parsed.events[i] for i in kept], [parsed.locations[i] for i in kept]
    return _ParsedRecords(events, locations, parsed.rejected), n_dropped


def _reject_invalid(parsed: _ParsedRecords, records: Records, limits: Limits) -> _ParsedRecords:
    """Move invalid events to the rejected ones."""
    events, locations, rejected = parsed
    rejections = _find_misplaced(events, records.partition, limits)
    rejections |= validate(events, [records.times[n] for n, _ in locations], limits)
    if not rejections:
        return parsed
    for i, rejection in rejections.items():
        n, index = locations[i]
        _, raw = parse_record(records.values[n], limits)[index]
        rejected.append(RejectedEvent(records.offsets[n], index, rejection, raw))
    valid_rows = [i for i in range(len(events)) if i not in rejections]
    return _ParsedRecords([events[i] for i in valid_rows], [locations[i] for i in valid_rows], rejected)


def _find_misplaced(events: Sequence[Event], partition: int, limits: Limits) -> dict[int, Rejection]:
    """Rejections of events in another partition than their user, by index."""
    if limits.partitions == 1:
        return {}
    users = [event.user_id or event.user for event in events]
    owners = partitions_for_ids(users, limits.partitions)
    return {
        i: Rejection("wrong_partition", describe_misplaced(int(owners[i]), partition, limits.partitions))
        for i in np.flatnonzero(owners != partition).tolist()
        if users[i]  # an event of nobody may be anywhere
    }


def _find_released(records: Records, locations: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return True for each event, (n,) bool, whose record was released from quarantine."""
    is_released = np.zeros(len(locations), np.bool_)
    if RELEASED_KEY_PREFIX in b"".join(filter(None, records.keys)):
        is_released[:] = [(records.keys[n] or b"").startswith(RELEASED_KEY_PREFIX) for n, _ in locations]
    return is_released


def _parse_single_events(records: Records, limits: Limits) -> _ParsedRecords | None:
    """Parse the usual micro-batch, one event per record; None for any other."""
    values = cast(Sequence[bytes], records.values)
    if None in values or max(map(len, values), default=0) > limits.max_bytes:
        return None
    try:
        return _ParsedRecords(decode_events(values), list(zip(range(len(values)), repeat(0))), [])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _parse_each(records: Records, limits: Limits) -> _ParsedRecords:
    """Parse record by record: an event, an array of events, or neither."""
    events: list[Event] = []
    locations: list[tuple[int, int]] = []
    rejected: list[RejectedEvent] = []
    for n, value in enumerate(records.values):
        try:
            if value is None or len(value) > limits.max_bytes:
                raise msgspec.DecodeError
            events.append(decode_event(value))
            locations.append((n, 0))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # an array, or invalid
            for index, (result, raw) in enumerate(parse_record(value, limits)):
                if isinstance(result, Event):
                    events.append(result)
                    locations.append((n, index))
                else:
                    rejected.append(RejectedEvent(records.offsets[n], index, result, raw))
    return _ParsedRecords(events, locations, rejected)


def _build_batch(
    events: Sequence[Event], offsets: Sequence[int], is_released: np.ndarray, disliked_stars: float
) -> EventBatch:
    kind = np.array([TYPE_NUMBERS[event.type] for event in events], np.uint8)
    impressions = np.flatnonzero(kind == EventType.impression).tolist()
    lists = _build_lists(events, impressions)
    features, feature_row = _decode_feature_blocks(events, impressions)
    value = np.array([np.nan if event.value is None else event.value for event in events], np.float32)
    return EventBatch(
        offset=np.array(offsets, np.int64),
        type=kind,
        ts=np.array([event.ts for event in events], np.int64),
        event=_event_keys(events, is_released),
        user=hash_ids([event.user_id or event.user for event in events]),
        item=_first_items(kind, lists),
        impression=_optional_keys([event.impression_id for event in events]),
        surface=_optional_keys([event.surface for event in events]),
        context=_context_columns(events, impressions),
        version=_optional_keys([event.model_version for event in events]),
        producer=_optional_keys([event.producer for event in events]),
        value=value,
        sign=action_signs(kind, value, disliked_stars),
        retraction=_retraction_keys(events),
        is_released=is_released,
        lists=lists,
        features=features,
        feature_row=feature_row,
    )


def _optional_keys(names: Sequence[str | None]) -> np.ndarray:
    """Keys of an optional field, (n,) uint64; 0 for events without it.

    Usually all events of a micro-batch have it, or none.
    """
    return hash_ids([name or "" for name in names]) if any(names) else np.full(len(names), NO_KEY, np.uint64)


def _event_keys(events: Sequence[Event], is_released: np.ndarray) -> np.ndarray:
    """Keys of event ids, (n,) uint64.

    A released event gets its own key, so it is no duplicate of the quarantined one.
    """
    names = [event.event_id for event in events]
    for row in np.flatnonzero(is_released).tolist():
        names[row] += RELEASED_KEY_PREFIX.decode()
    return hash_ids(names)


def _first_items(kind: np.ndarray, lists: CandidateLists) -> np.ndarray:
    """Item of each action, (n,) uint64; NO_KEY for an impression and for an empty list."""
    has_item = (kind != EventType.impression) & (np.diff(lists.start) > 0)
    item = np.full(kind.size, NO_KEY, np.uint64)
    item[has_item] = lists.item[lists.start[:-1][has_item]]
    return item


def _retraction_keys(events: Sequence[Event]) -> np.ndarray:
    """Column `retraction` of events, (n,) uint64."""
    keys = np.full(len(events), NO_RETRACTION, np.uint64)
    for i in [i for i, event in enumerate(events) if event.type in RETRACTIONS]:
        keys[i] = hash_id(events[i].retracted_id or "") if events[i].type == RETRACT else LATEST_ACTION
    return keys


def _build_lists(events: Sequence[Event], impressions: Sequence[int]) -> CandidateLists:
    impression_type = EventType.impression.name
    lists = (impression_type, ATTACH)
    names = [shown_items(event) if event.type in lists else (event.item_id or "",) for event in events]
    start = ragged_starts(np.fromiter(map(len, names), np.int64, len(names)))
    m = int(start[-1])
    position = np.full(m, -1, np.int16)
    propensity, price = np.full(m, np.nan, np.float32), np.full(m, np.nan, np.float32)
    flat, first = flatten_ragged(start, np.array(impressions, np.int64))
    position[flat] = np.arange(flat.size) - np.repeat(first[:-1], np.diff(first))
    for i in impressions:
        event, size = events[i], len(names[i])
        if size == 1 and event.position is not None:
            position[start[i]] = event.position
        if event.propensities is not None:
            propensity[start[i] : start[i + 1]] = event.propensities
        elif size == 1 and event.propensity is not None:
            propensity[start[i]] = event.propensity
        if event.context and "prices" in event.context:
            price[start[i] : start[i + 1]] = _parse_prices(event.context, size)
    item = hash_ids([name for items in names for name in items])
    return CandidateLists(start, item, np.zeros(m, np.float32), position, propensity, price)


def _parse_prices(context: dict[str, Any], size: int) -> list[float]:
    prices = context.get("prices")
    if not isinstance(prices, list) or len(prices) != size:
        return [np.nan] * size
    return [price if isinstance(price, int | float) and 0 <= price < 1e12 else np.nan for price in prices]


def context_keys(context: dict[str, Any] | None) -> list[int]:
    """Keys of the first N_CONTEXT text or boolean values of a context, sorted by name."""
    keys: list[int] = hash_ids(_context_pairs(context)).tolist()
    return keys


def _context_pairs(context: dict[str, Any] | None) -> list[str]:
    """Texts "name=value" that `context_keys` hashes, padded with empty ones."""
    if not context:
        return _NO_CONTEXT
    names = sorted(name for name, value in context.items() if isinstance(value, (str, bool)))[:N_CONTEXT]
    return [f"{name}={context[name]}" for name in names] + _NO_CONTEXT[len(names) :]


def _context_columns(events: Sequence[Event], impressions: Sequence[int]) -> np.ndarray:
    """Context keys of impressions.

    The context of an action is left out, because it can leak the outcome.
    """
    context = np.zeros((len(events), N_CONTEXT), np.uint64)
    pairs = [pair for i in impressions for pair in _context_pairs(events[i].context)]
    context[impressions] = hash_ids(pairs).reshape(-1, N_CONTEXT)
    return context


def _decode_feature_blocks(events: Sequence[Event], impressions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Stack feature blocks of one width; the first row of each event, -1 without features."""
    blocks: list[np.ndarray] = []
    feature_row = np.full(len(events), -1, np.int32)
    n_rows = width = 0
    for i in impressions:
        text = events[i].features
        block = decode_features(text, len(shown_items(events[i]))) if text else None
        if block is None or (width and block.shape[1] != width):
            continue
        feature_row[i], width = n_rows, block.shape[1]
        n_rows += block.shape[0]
        blocks.append(block)
    return (np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32)), feature_row
