"""User profiles as versioned binary records of the user store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from stream.clock import DAY_MS, MINUTE_MS
from stream.records.batches import N_CONTEXT, EventType, Queries, ragged_starts
from stream.records.events import MERGES, RETRACTIONS, Event, validate_id
from stream.records.fields import user_field_keys
from stream.records.signs import plain_types

N_HISTORY = 100  # latest actions per user
N_INTERACTED = 1024  # distinct items per user in a column; longer lists are in a pool
MAX_INTERACTED = 8192  # distinct items per user: owned ones, which a full list forgets last, and N_INTERACTED others
N_QUERY_HISTORY = 64  # latest actions in a query
N_SHOWN = 64  # latest shown items per user, all of them in a query
N_SLATES = 16  # latest impressions per user
SESSION_GAP_MS = 30 * MINUTE_MS  # time without an action that ends a session
N_AWAITED = 8  # retractions per user whose action has not arrived
N_MINUTE_COUNTS = 3  # decayed counts of the rate limits, see stream.users.rate_limits
_SCHEMA = 1


@dataclass(slots=True)
class Profile:
    """State of one user; the history columns start with the oldest action."""

    user_id: str
    offset: int  # of the last event applied, -1 = none
    users_offset: int  # of the last record of the users topic applied, -1 = none
    last_ts: int
    session_start: int
    session_depth: int
    counts: np.ndarray  # (9,) uint32, all events, by type
    rates: np.ndarray  # (9,) float32, decayed counts as of last_ts, half-life one day
    item: np.ndarray  # (h,) uint64
    type: np.ndarray  # (h,) uint8
    ts: np.ndarray  # (h,) int64
    interacted: np.ndarray  # (m,) uint64, items with an action: the owned ones, then the others, oldest first
    text: bytes  # item and event ids of the history, one line per action
    attributes: bytes  # JSON, empty = none
    shown: np.ndarray  # (s,) uint64, shown items, oldest first, with repetitions
    minute_counts: np.ndarray  # (N_MINUTE_COUNTS,) float32, decayed counts as of minute_counts_ts, half-life one minute
    minute_counts_ts: int  # event time of the last action, quarantined ones included, ms
    last_alarm_ts: int  # event time of the last alarm about this user, ms
    ban_end_ts: int  # event time up to which actions on banned_item are quarantined, ms
    banned_item: int  # key of an item; NO_KEY = every item
    slates: np.ndarray  # (i,) uint64, impressions of the user, oldest first
    partition: int = -1  # of the offsets; -1 = unknown, in records of older versions
    owned_size: int = 0  # items that the user owns or has rated, the first ones of `interacted`
    forgotten_ts: int = 0  # time, ms, of the last request to forget the user, 0 = never

    @property
    def is_empty(self) -> bool:
        """Return True for a new or a forgotten user."""
        return not self.counts.any() and not self.attributes


class StoredProfile(msgspec.Struct, array_like=True, gc=False):
    """Profile as stored, with columns as bytes."""

    schema: int
    user_id: str
    numbers: tuple[int, int, int, int, int]
    counts: bytes
    rates: bytes
    item: bytes
    type: bytes
    ts: bytes
    interacted: bytes
    text: bytes
    attributes: bytes
    shown: bytes = b""
    minute_counts: bytes = bytes(4 * N_MINUTE_COUNTS)
    guard_state: tuple[int, int, int, int] = (0, 0, 0, 0)  # minute_counts_ts, last_alarm_ts, ban_end_ts, banned_item
    slates: bytes = b""
    partition: int = -1
    owned_size: int = 0
    forgotten_ts: int = 0
    awaited: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredProfile)
_attributes_decoder = msgspec.json.Decoder(dict[str, Any])


def encode_profile_fields(*fields: Any) -> bytes:
    """Encode the fields of `StoredProfile` after `schema`, with the current schema.

    The last one is left out if it is empty, as it is for nearly all users.
    """
    return _encoder.encode((_SCHEMA, *(fields if fields[-1] else fields[:-1])))


def decode_stored_profile(value: bytes) -> StoredProfile:
    """Decode a record; ValueError for a newer schema, since writing it back would lose fields."""
    record = _decoder.decode(value)
    if record.schema > _SCHEMA:
        raise ValueError(f"user record has schema {record.schema}, expected at most {_SCHEMA}: upgrade this process")
    return record


def decode_profile(value: bytes) -> Profile:
    """Decode the profile in a record of the user store."""
    record = decode_stored_profile(value)
    return Profile(
        record.user_id, *record.numbers,
        np.frombuffer(record.counts, np.uint32), np.frombuffer(record.rates, np.float32),
        np.frombuffer(record.item, np.uint64), np.frombuffer(record.type, np.uint8), np.frombuffer(record.ts, np.int64),
        np.frombuffer(record.interacted, np.uint64), record.text, record.attributes,
        np.frombuffer(record.shown, np.uint64), np.frombuffer(record.minute_counts, np.float32), *record.guard_state,
        np.frombuffer(record.slates, np.uint64), record.partition, record.owned_size, record.forgotten_ts,
    )  # fmt: skip


EMPTY_PROFILE = Profile(
    "", -1, -1, 0, 0, 0, np.zeros(9, np.uint32), np.zeros(9, np.float32),
    np.zeros(0, np.uint64), np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.uint64), b"", b"",
    np.zeros(0, np.uint64), np.zeros(N_MINUTE_COUNTS, np.float32), 0, 0, 0, 0, np.zeros(0, np.uint64),
)  # fmt: skip


def queries_from_profiles(
    profiles: Sequence[Profile],
    users: Sequence[int],
    ts: Sequence[int],
    surfaces: Sequence[int],
    contexts: Sequence[Sequence[int]],
) -> Queries:
    """Build one query per user at time `ts`, ms, equal to the queries of `UserTable.apply`."""
    pairs = list(zip(profiles, ts, strict=True))
    is_new_session = [query_ts - p.last_ts > SESSION_GAP_MS or p.session_depth == 0 for p, query_ts in pairs]
    decay = np.array([0.5 ** (max(0, query_ts - p.last_ts) / DAY_MS) for p, query_ts in pairs], np.float32)
    context = np.zeros((len(profiles), N_CONTEXT), np.uint64)
    for row, keys in zip(context, contexts, strict=True):
        row[: len(keys)] = keys
    return Queries(
        ts=np.array(ts, np.int64),
        user=np.array(users, np.uint64),
        surface=np.array(surfaces, np.uint64),
        context=context,
        session_start=np.where(is_new_session, ts, [p.session_start for p in profiles]),
        session_depth=np.where(is_new_session, 0, [p.session_depth for p in profiles]).astype(np.int32),
        rates=np.array([p.rates for p in profiles], np.float32) * decay[:, None],
        history_start=ragged_starts(np.array([min(N_QUERY_HISTORY, p.item.size) for p in profiles])),
        history_item=np.concatenate([p.item[-N_QUERY_HISTORY:] for p in profiles]),
        history_type=np.concatenate([p.type[-N_QUERY_HISTORY:] for p in profiles]),
        history_ts=np.concatenate([p.ts[-N_QUERY_HISTORY:] for p in profiles]),
        shown_start=ragged_starts(np.array([p.shown.size for p in profiles])),
        shown_item=np.concatenate([p.shown for p in profiles]),
        user_keys=np.stack([user_field_keys(p.attributes) for p in profiles]),
    )


def refuses_consent(attributes: bytes) -> bool:
    """Return True if the attributes of a user, as JSON, have `consent` false."""
    return b'"consent"' in attributes and _attributes_decoder.decode(attributes).get("consent") is False


def history_line(event: Event) -> bytes:
    """Line of an action in a profile's text.

    Ids hold no control characters, so a tab separates them.
    """
    is_action = event.type != "impression" and event.type not in RETRACTIONS and event.type not in MERGES
    return b"" if not is_action else f"{event.item_id}\t{event.event_id}\n".encode()


def has_action(profile: Profile, event: Event) -> bool:
    """Return True if a history has an action with the same event_id, item, type and ts."""
    line = history_line(event)
    if not line or line not in profile.text:
        return False
    lines = profile.text.split(b"\n")[:-1][-profile.item.size :]
    actions = zip(lines, plain_types(profile.type).tolist(), profile.ts.tolist(), strict=True)
    return (line[:-1], EventType[event.type], event.ts) in actions


def split_attributes(attributes: bytes) -> tuple[dict[str, Any], list[str], bool]:
    """Attributes, declared interests and consent in the record of a user, as JSON."""
    fields = _attributes_decoder.decode(attributes) if attributes else {}
    interests, consent = fields.pop("interests", []), fields.pop("consent", True)
    return fields, interests if isinstance(interests, list) else [], consent is not False


def validate_user_record(key: bytes | None, value: bytes | None) -> str | None:
    """Error of a record of the users topic, or None.

    The key must be a user id, the value a JSON object or None.
    """
    try:
        id_error = validate_id("user_id", (key or b"").decode())
        if value is not None:
            _attributes_decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"expected a user id as key and a JSON object as value: {error}"
    return id_error[1] if id_error else None


def describe(profile: Profile) -> dict[str, Any]:
    """Profile as JSON for the API: history oldest first, counts by type, session, attributes."""
    lines = [line.split("\t") for line in profile.text.decode().split("\n")[:-1]][-profile.item.size :]
    history = [
        {"item_id": item, "type": EventType(kind).name, "ts": ts, "event_id": event}
        for (item, event), kind, ts in zip(lines, plain_types(profile.type).tolist(), profile.ts.tolist(), strict=True)
    ]
    attributes, interests, consent = split_attributes(profile.attributes)
    return {
        "user_id": profile.user_id,
        "history": history if profile.item.size else [],
        "counts": {kind.name: int(profile.counts[kind]) for kind in EventType},
        "session": {"start": profile.session_start, "depth": profile.session_depth, "last_ts": profile.last_ts},
        "attributes": attributes,
        "interests": interests,
        "consent": consent,
        "offset": profile.offset,
    }
