"""Records in, columns out: one partition's micro-batch, decoded and screened."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, cast

import msgspec
import numpy as np

from stream.ids import NO_KEY, hash_ids
from stream.logs import Records
from stream.records.batches import N_CONTEXT, CandidateLists, Columns, EventType, flatten_ragged, ragged_starts
from stream.records.dead_letters import RejectedEvent
from stream.records.events import Event, Limits, decode_event, parse_record, shown_items, validate
from stream.records.feature_codec import _decode_features

_TYPE_NUMBERS = {kind.name: int(kind) for kind in EventType}
_NO_CONTEXT = [""] * N_CONTEXT
# Begins the key of a record whose events were released from quarantine. No id holds a control character, so that no
# producer over HTTP can write such a key, and no event_id is that of a released event.
RELEASED_KEY_PREFIX = b"\x01released\x01"


@dataclass(frozen=True, slots=True)
class EventBatch(Columns):
    """Events of one partition in log order; the list columns belong to impressions and are empty runs elsewhere."""

    offset: np.ndarray  # (n,) int64
    type: np.ndarray  # (n,) uint8, EventType
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
    is_released: np.ndarray  # (n,) bool, passes the screen: somebody looked at it and let it out of quarantine
    lists: CandidateLists  # what an impression showed, or the one item of an action
    features: np.ndarray  # (rows, f) float32, as served
    feature_row: np.ndarray  # (n,) int32, first row in `features`, -1 = none

    def take(self, rows: np.ndarray) -> "EventBatch":
        """The rows given, in that order; `features` is kept whole."""
        nested_fields = ("lists", "features")
        columns = {name: value[rows] for name, value in self.arrays().items() if name not in nested_fields}
        return EventBatch(**columns, lists=self.lists.take(rows), features=self.features)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What a micro-batch of records came to."""

    batch: EventBatch
    events: Sequence[Event]  # one per row of the batch: the texts that people will want to read
    rejected: Sequence[RejectedEvent]
    locations: Sequence[tuple[int, int]]  # which record, and which place in its array, of each row
    records: Records

    def raw_event(self, row: int) -> bytes:
        """The bytes of a row's event."""
        n, index = self.locations[row]
        return parse_record(self.records.values[n], _NO_LIMITS)[index][1]


_NO_LIMITS = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)


def decode_records(records: Records, limits: Limits) -> DecodedBatch:
    """Decode and screen. Age is judged by the time a record was appended, so that a replay judges alike."""
    events, locations, rejected = _decode_single_events(records, limits) or _decode_each(records, limits)
    rejections = validate(events, [records.times[n] for n, _ in locations], limits)
    for i, rejection in rejections.items():
        n, index = locations[i]
        _, raw = parse_record(records.values[n], limits)[index]
        rejected.append(RejectedEvent(records.offsets[n], index, rejection, raw))
    if rejections:
        valid_rows = [i for i in range(len(events)) if i not in rejections]
        events, locations = [events[i] for i in valid_rows], [locations[i] for i in valid_rows]
    is_released = np.zeros(len(locations), np.bool_)
    if RELEASED_KEY_PREFIX in b"".join(filter(None, records.keys)):
        is_released[:] = [(records.keys[n] or b"").startswith(RELEASED_KEY_PREFIX) for n, _ in locations]
    batch = _build_batch(events, [records.offsets[n] for n, _ in locations], is_released)
    return DecodedBatch(batch, events, rejected, locations, records)


_DecodeResult = tuple[list[Event], list[tuple[int, int]], list[RejectedEvent]]  # the second: see `Intake.places`


def _decode_single_events(records: Records, limits: Limits) -> _DecodeResult | None:
    """What nearly all micro-batches are, one event to each record; None for any other."""
    values = cast(Sequence[bytes], records.values)
    if None in values or max(map(len, values), default=0) > limits.max_bytes:
        return None
    try:
        return list(map(decode_event, values)), list(zip(range(len(values)), repeat(0))), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decode_each(records: Records, limits: Limits) -> _DecodeResult:
    """Record by record: an event, an array of them, or what could not be one."""
    events: list[Event] = []
    locations: list[tuple[int, int]] = []
    rejected: list[RejectedEvent] = []
    for n, value in enumerate(records.values):
        try:
            if value is None or len(value) > limits.max_bytes:
                raise msgspec.DecodeError
            events.append(decode_event(value))
            locations.append((n, 0))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # an array of events, or no event
            for index, (result, raw) in enumerate(parse_record(value, limits)):
                if isinstance(result, Event):
                    events.append(result)
                    locations.append((n, index))
                else:
                    rejected.append(RejectedEvent(records.offsets[n], index, result, raw))
    return events, locations, rejected


def _build_batch(events: Sequence[Event], offsets: Sequence[int], is_released: np.ndarray) -> EventBatch:
    kind = np.array([_TYPE_NUMBERS[event.type] for event in events], np.uint8)
    impressions = np.flatnonzero(kind == EventType.impression).tolist()
    lists = _build_lists(events, impressions)
    features, feature_row = _decode_feature_blocks(events, impressions)
    first = lists.start[:-1]
    return EventBatch(
        offset=np.array(offsets, np.int64),
        type=kind,
        ts=np.array([event.ts for event in events], np.int64),
        event=_event_keys(events, is_released),
        user=hash_ids([event.user_id for event in events]),
        item=np.where(kind == EventType.impression, np.uint64(NO_KEY), lists.item[first]),
        impression=_optional_keys([event.impression_id for event in events]),
        surface=_optional_keys([event.surface for event in events]),
        context=_context_columns(events, impressions),
        version=_optional_keys([event.model_version for event in events]),
        producer=_optional_keys([event.producer for event in events]),
        value=np.array([np.nan if event.value is None else event.value for event in events], np.float32),
        is_released=is_released,
        lists=lists,
        features=features,
        feature_row=feature_row,
    )


def _optional_keys(names: Sequence[str | None]) -> np.ndarray:
    """Keys of fields that may be missing, which they mostly are in all of a micro-batch or in none."""
    return hash_ids([name or "" for name in names]) if any(names) else np.full(len(names), NO_KEY, np.uint64)


def _event_keys(events: Sequence[Event], is_released: np.ndarray) -> np.ndarray:
    """A released event is no repeat of itself in quarantine, but of itself released before."""
    names = [event.event_id for event in events]
    for row in np.flatnonzero(is_released).tolist():
        names[row] += RELEASED_KEY_PREFIX.decode()
    return hash_ids(names)


def _build_lists(events: Sequence[Event], impressions: Sequence[int]) -> CandidateLists:
    impression_type = EventType.impression.name
    names = [shown_items(event) if event.type == impression_type else (event.item_id or "",) for event in events]
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
    """Keys of the first N_CONTEXT text or truth values of a context, by name; numbers and lists are no categories."""
    keys: list[int] = hash_ids(_context_pairs(context)).tolist()
    return keys


def _context_pairs(context: dict[str, Any] | None) -> list[str]:
    """The pairs that `context_keys` are the keys of, padded with empty ones."""
    if not context:
        return _NO_CONTEXT
    names = sorted(name for name, value in context.items() if isinstance(value, (str, bool)))[:N_CONTEXT]
    return [f"{name}={context[name]}" for name in names] + _NO_CONTEXT[len(names) :]


def _context_columns(events: Sequence[Event], impressions: Sequence[int]) -> np.ndarray:
    """Only an impression's context was known when it was asked for; an action's may tell its outcome."""
    context = np.zeros((len(events), N_CONTEXT), np.uint64)
    pairs = [pair for i in impressions for pair in _context_pairs(events[i].context)]
    context[impressions] = hash_ids(pairs).reshape(-1, N_CONTEXT)
    return context


def _decode_feature_blocks(events: Sequence[Event], impressions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Feature blocks of one width, one below the other, and the first row of each event's; -1 for other people's."""
    blocks: list[np.ndarray] = []
    feature_row = np.full(len(events), -1, np.int32)
    n_rows = width = 0
    for i in impressions:
        text = events[i].features
        block = _decode_features(text, len(shown_items(events[i]))) if text else None
        if block is None or (width and block.shape[1] != width):
            continue
        feature_row[i], width = n_rows, block.shape[1]
        n_rows += block.shape[0]
        blocks.append(block)
    return (np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32)), feature_row
