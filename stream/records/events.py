"""Events on the wire, their validation, and the reasons for rejections."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stream.records.batches import EventType
from stream.records.timestamps import MAX_TS, TS_UNIT, parse_text_time, validate_time

TypeName = Literal[
    "impression", "view", "click", "like", "dislike", "cart", "purchase", "dwell", "rating",
    "return", "unlike", "remove_from_cart", "retract", "alias", "detach", "attach",
]  # fmt: skip
# Types that take back the latest action of another type on the same item.
RETRACTED_TYPES = {"return": EventType.purchase, "unlike": EventType.like, "remove_from_cart": EventType.cart}
RETRACT = "retract"  # takes back the event that it names
ALIAS, DETACH, ATTACH = "alias", "detach", "attach"  # see `stream.users.merges`
MERGES = frozenset((ALIAS, DETACH, ATTACH))
RETRACTIONS = frozenset((*RETRACTED_TYPES, RETRACT))
# Type number by name; of a retraction, that of the action to take back, `view` if only its event_id is known.
TYPE_NUMBERS = {name: int(kind) for name, kind in (EventType.__members__ | RETRACTED_TYPES).items()} | {
    name: int(EventType.view) for name in (RETRACT, *sorted(MERGES))
}
MAX_ID_BYTES = 256
SESSION_PREFIX = "session:"  # of the id of the anonymous user of a session
MAX_SLATE = 1000
MAX_QUANTITY = 1_000_000
_MAX_VALUE = 3.4e38  # largest value of a float32 column
_TIME_SCHEMA = {"anyOf": [{"type": "integer"}, {"type": "string", "format": "date-time"}]}
_CONTROL_CHARS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class MergedAction(msgspec.Struct, array_like=True, gc=False):
    """Action of an anonymous user that joins an account."""

    item_id: str
    type: Annotated[int, Meta(ge=0, le=255)]  # as a history holds it
    ts: Annotated[int, Meta(ge=0, le=MAX_TS)]
    event_id: str


class Event(msgspec.Struct, gc=False):
    """Event on the wire; other fields pass through the log unchanged."""

    event_id: Annotated[str, Meta(description="Unique id; a repeated one changes nothing.")]
    type: Annotated[TypeName, Meta(description="What happened.")]
    ts: Annotated[int, Meta(description="Event time: ms since 1970, or ISO 8601 text.", extra_json_schema=_TIME_SCHEMA)]
    user_id: Annotated[
        str | None, Meta(description="The user; the partition key. Without it, the session stands for the user.")
    ] = None
    item_id: Annotated[str | None, Meta(description="Item of an action, or of an impression of one item.")] = None
    session_id: Annotated[str | None, Meta(description="Session; alone, it is an anonymous user of its own.")] = None
    impression_id: Annotated[str | None, Meta(description="Slate; an impression needs it, an action should.")] = None
    surface: Annotated[str | None, Meta(description="Place where the slate was shown.")] = None
    items: Annotated[list[str] | None, Meta(description="Items of an impression, in order, each once.")] = None
    propensities: Annotated[list[float] | None, Meta(description="Probability of each item in its position.")] = None
    propensity: Annotated[float | None, Meta(description="Probability of the item of a one-item impression.")] = None
    sources: Annotated[list[str] | None, Meta(description="Channel that found each item.")] = None
    position: Annotated[int | None, Meta(description="Position of a one-item impression, from 0.")] = None
    value: Annotated[float | None, Meta(description="Seconds of a dwell, stars of a rating, price of a purchase.")] = (
        None
    )
    quantity: Annotated[int | None, Meta(description="Pieces of a cart, a purchase or a return.")] = 1
    retracted_id: Annotated[
        str | None, Meta(description="The `event_id` of the event that a `retract` takes back.")
    ] = None
    anonymous_id: Annotated[str | None, Meta(description="The user whose history an `alias` joins to `user_id`.")] = (
        None
    )
    account_id: Annotated[
        str | None, Meta(description="The user of the `alias`, in a `detach` that stream writes.")
    ] = None
    actions: Annotated[list[MergedAction] | None, Meta(description="History, in an `attach` that stream writes.")] = (
        None
    )
    counts: Annotated[list[int] | None, Meta(description="Counts by type, in an `attach` that stream writes.")] = None
    model_version: Annotated[str | None, Meta(description="Version that made the slate.")] = None
    context: Annotated[dict[str, Any] | None, Meta(description="Circumstances, such as the device.")] = None
    features: Annotated[str | None, Meta(description="Features as served; Headrace writes them.")] = None
    consent: Annotated[bool, Meta(description="False: the event is dropped, nothing of it is kept.")] = True
    producer: Annotated[str | None, Meta(description="Sender on behalf of the user, such as a partner or an app.")] = (
        None
    )

    @property
    def user(self) -> str:
        """Id of the user, or of the anonymous user of a session; empty for nobody."""
        return name_user(self.user_id, self.session_id)

    @property
    def partition_key(self) -> str:
        """Key of the event's record: the user.

        For nobody it is the slate, so that the actions on a slate are in one partition.
        """
        return self.user or self.impression_id or self.event_id


def name_user(user_id: str | None, session_id: str | None) -> str:
    """Id of a user, or of the anonymous user of a session; empty for nobody.

    >>> name_user("ann", "s1"), name_user(None, "s1"), name_user(None, None)
    ('ann', 'session:s1', '')
    """
    if user_id is not None:
        return user_id
    return "" if session_id is None else f"{SESSION_PREFIX}{session_id}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Reason why a record, or one event in it, is not a valid event."""

    reason: str  # short code, for metrics
    detail: str  # sentence for the producer: field, value, expected value


CONFLICTING_EVENT_ID = Rejection(
    "conflicting_event_id",
    "event_id is that of an earlier event with another user, type, ts, item or value; expected an id that is unique"
    " among all events, such as a UUID",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for the size and the time of an event, and for the stars of a dislike."""

    max_age: float  # seconds; 0 accepts events of any age
    max_skew: float  # seconds by which a producer's clock may be ahead
    max_bytes: int = 1 << 20
    disliked_stars: float = 2.0  # ratings of at most so many stars are dislikes
    partitions: int = 1  # of the topic; above 1, a record in another partition than its user's is rejected

    def __post_init__(self) -> None:
        if self.max_age < 0 or self.max_skew < 0:
            raise ValueError(f"max_age and max_skew must not be negative, got {self.max_age} and {self.max_skew}")


_decode = msgspec.json.Decoder(Event).decode
_raw_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def decode_events(values: Sequence[bytes]) -> list[Event]:
    """Decode events whose times are numbers; msgspec.DecodeError at the first other value."""
    return list(map(_decode, values))


def decode_event(value: bytes | msgspec.Raw) -> Event:
    """Decode an event, also one whose time is text; msgspec.DecodeError names the invalid field."""
    try:
        return _decode(value)
    except msgspec.ValidationError as error:
        if not str(error).endswith("got `str` - at `$.ts`"):
            raise
    fields = msgspec.json.decode(value)
    try:
        time = parse_text_time(fields["ts"])
    except (ValueError, OverflowError):
        raise msgspec.ValidationError(f"Expected a time, got {fields['ts'][:64]!r} - at `$.ts`") from None
    return msgspec.convert(fields | {"ts": time}, Event)


def parse(value: bytes | msgspec.Raw) -> Event | Rejection:
    """Parse an event, or return the reason why it is invalid; `validate` checks times and ids."""
    try:
        return decode_event(value)
    except msgspec.ValidationError as error:
        return Rejection(*_explain(str(error)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejection("not_json", f"not JSON in UTF-8: {find_utf8_error(bytes(value)) or error}")


def find_utf8_error(value: bytes) -> UnicodeDecodeError | None:
    r"""Error with the position of the first byte that is not UTF-8; None if all are.

    >>> find_utf8_error(b'{"user_id": "\xff"}').start
    13
    """
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return error
    return None


def parse_record(value: bytes | None, limits: Limits) -> list[tuple[Event | Rejection, bytes]]:
    """Parse a record, one event or an array; returns events or rejections with their bytes."""
    if value is None:
        return [
            (Rejection("not_json", "the record has no value; expected a JSON object or an array of JSON objects"), b"")
        ]
    if len(value) > limits.max_bytes:
        detail = f"the record has {len(value)} bytes; at most {limits.max_bytes} are accepted"
        return [(Rejection("too_large", detail), value[:1024])]
    if value.lstrip()[:1] != b"[":
        return [(parse(value), value)]
    try:
        return [(parse(raw), bytes(raw)) for raw in _raw_list_decoder.decode(value)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [(Rejection("not_json", f"not a JSON array in UTF-8: {error}"), value)]


def _explain(message: str) -> tuple[str, str]:
    """Reason code and detail for an error message of the decoder."""
    if message.startswith("Invalid enum value"):
        return "unknown_type", f"{message}; type must be one of {', '.join(TYPE_NUMBERS)}"
    if "missing required field" in message:
        return "missing_field", message
    if "$" not in message:
        return "not_object", f"{message}; an event is a JSON object"
    return "wrong_type", f"{message}; ts is {TS_UNIT}" if message.endswith("`$.ts`") else message


def validate(events: Sequence[Event], times: Sequence[int], limits: Limits) -> dict[int, Rejection]:
    """Rejections of parsed events, by index; `times` are their append times, ms.

    Nearly all events are valid, so a cheap pass selects the few that need a full check.
    """
    max_skew_ms = int(limits.max_skew * 1000)
    max_age_ms = int(limits.max_age * 1000) or MAX_TS
    suspects = set() if _has_valid_ids(events) else set(range(len(events)))
    for i, (event, time) in enumerate(zip(events, times, strict=True)):
        if (
            not 0 <= event.ts <= time + max_skew_ms
            or event.ts < time - max_age_ms
            or event.ts > MAX_TS
            or (event.type == "rating" if event.value is None else not 0 <= event.value < _MAX_VALUE)
            or not (_is_plain_slate(event) if event.type == "impression" else event.item_id)
            or event.position is not None
            or event.quantity not in (None, 1)
            or event.type == RETRACT
            or event.type in MERGES
        ):
            suspects.add(i)
    errors = {i: _validate_event(events[i], times[i], limits) for i in sorted(suspects)}
    return {i: Rejection(*error) for i, error in errors.items() if error}


def _is_plain_slate(impression: Event) -> bool:
    """Return True if an impression with valid ids has the usual shape; others need a check."""
    items, propensities, sources = impression.items or (), impression.propensities, impression.sources
    size = len(items)
    if impression.impression_id is None or not 0 < size <= MAX_SLATE or (sources is not None and len(sources) != size):
        return False
    if len(set(items)) != size:
        return False
    if propensities is None:
        return impression.propensity is None
    return len(propensities) == size and min(propensities) > 0 and max(propensities) <= 1


def _has_valid_ids(events: Sequence[Event]) -> bool:
    """Return True if all ids are short and printable; others need a check.

    It searches all ids as one text.
    """
    ids: list[str | None] = []
    for event in events:
        ids += (event.event_id, event.user_id, event.item_id, event.impression_id, event.session_id)
        if event.items:
            ids += event.items
    names = [name for name in ids if name is not None]
    if not names or not all(names):
        return False
    text = "".join(names)
    return max(map(len, names)) <= MAX_ID_BYTES // 4 and (text.isprintable() or not _CONTROL_CHARS.search(text))


def validate_id(field: str, name: str) -> tuple[str, str] | None:
    """Error of an id as (reason, detail), or None."""
    if _CONTROL_CHARS.search(name):
        return "bad_id", f"{field} {name!r} contains a control character or a lone surrogate; remove it"
    size = len(name.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        return "bad_id", f"{field} has {size} bytes; expected 1 to {MAX_ID_BYTES} bytes of UTF-8"
    return None


def _validate_event(event: Event, time: int, limits: Limits) -> tuple[str, str] | None:
    if not _has_valid_ids((event,)):
        for field in ("event_id", "user_id", "item_id", "impression_id", "session_id"):
            name = getattr(event, field)
            if name is not None and (error := validate_id(field, name)):
                return error
    error = validate_time(event.ts, time, limits.max_age, limits.max_skew)
    return error or _validate_value(event) or _validate_shape(event)


def _validate_value(event: Event) -> tuple[str, str] | None:
    if event.value is None and event.type == "rating":
        return "missing_field", "a rating needs value, the number of stars"
    if event.value is not None and not 0 <= event.value < _MAX_VALUE:
        return "bad_value", f"value of a {event.type} is {event.value!r}; expected 0 to {_MAX_VALUE}"
    if event.position is not None and not 0 <= event.position < MAX_SLATE:
        return "bad_value", f"position must be 0 to {MAX_SLATE - 1}, got {event.position}"
    if event.quantity is not None and not 1 <= event.quantity <= MAX_QUANTITY:
        return "bad_value", f"quantity must be 1 to {MAX_QUANTITY}, got {event.quantity}"
    return None


def _validate_shape(event: Event) -> tuple[str, str] | None:
    if event.type in MERGES:
        return _validate_merge(event)
    if event.type == RETRACT:
        if event.retracted_id is None:
            return "missing_field", "a retract needs retracted_id, the event_id of the event to take back"
        return validate_id("retracted_id", event.retracted_id)
    if event.type != "impression":
        return None if event.item_id is not None else ("missing_field", f"a {event.type} needs item_id")
    if event.impression_id is None:
        return "missing_field", "an impression needs impression_id"
    items = shown_items(event)
    if not items:
        return "missing_field", "an impression needs items, a list of at least one item id"
    if len(items) > MAX_SLATE:
        return "too_large", f"items has {len(items)} entries; at most {MAX_SLATE} are accepted"
    if not all(items) or max(map(len, items)) > MAX_ID_BYTES // 4 or _CONTROL_CHARS.search("".join(items)):
        for name in items:
            if error := validate_id("items", name):
                return error
    for field, values in (("propensities", event.propensities), ("sources", event.sources)):
        if values is not None and len(values) != len(items):
            return "list_lengths", f"{field} has {len(values)} entries for {len(items)} items; expected one per item"
    if len(set(items)) < len(items):
        item_id = next(item_id for i, item_id in enumerate(items) if item_id in items[:i])
        return "repeated_item", f"items has {item_id!r} more than once; expected each item in one position"
    scalar = [] if event.propensity is None else [event.propensity]
    return _find_bad_propensity("propensities", event.propensities or []) or _find_bad_propensity("propensity", scalar)


def _validate_merge(event: Event) -> tuple[str, str] | None:
    name = {ALIAS: "anonymous_id", DETACH: "account_id"}.get(event.type)
    other = event.anonymous_id if event.type == ALIAS else event.account_id
    if not event.user:
        return "missing_field", f"an {event.type} needs user_id"
    if name is not None:
        if other is None:
            return "missing_field", f"an {event.type} needs {name}"
        if other == event.user:
            return "bad_value", f"{name} is the user of the event, {other!r}; expected another user"
        return validate_id(name, other)
    counts, actions = event.counts or [], event.actions or []
    if len(counts) != len(EventType) or not all(0 <= count < 1 << 32 for count in counts):
        return "bad_value", f"counts of an attach has {counts!r}; expected {len(EventType)} numbers from 0"
    if not 0 < len(actions) <= MAX_SLATE or not all(0 < action.type & 0x7F < len(EventType) for action in actions):
        return "bad_value", f"actions of an attach has {len(actions)} entries, or one of an unknown type"
    ids = (pair for action in actions for pair in (("item_id", action.item_id), ("event_id", action.event_id)))
    return next((error for field, name in ids if (error := validate_id(field, name))), None)


def _find_bad_propensity(field: str, values: Sequence[float]) -> tuple[str, str] | None:
    bad = next((value for value in values if not 0 < value <= 1), None)
    return None if bad is None else ("bad_propensity", f"{field} has {bad!r}; expected values above 0 and at most 1")


def shown_items(event: Event) -> list[str]:
    """Items of an impression or of an `attach`, or the item of an action.

    An impression of one item can use item_id alone.
    """
    if event.items is not None and event.type == "impression":
        return event.items
    if event.actions is not None and event.type == ATTACH:
        return [action.item_id for action in event.actions]
    return [] if event.item_id is None else [event.item_id]
