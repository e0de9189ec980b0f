"""Bodies of the HTTP API that the server encodes and the client decodes."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from online_models.control import Ranges
from stream.records.catalog import Item

Status = Literal["accepted", "partial", "refused"]


class RefusedRecord(Struct, frozen=True, omit_defaults=True):
    """An event or item that was rejected, by its index in the request."""

    index: Annotated[int, Meta(description="Position in the list, from 0; 0 for a single object.")]
    reason: Annotated[str, Meta(description="The invalid field, its value and the expected value.")]
    code: Annotated[str, Meta(description="Reason of the dead-letter record; items have none.")] = ""


def find_status(accepted: int, refused: int) -> Status:
    """Outcome of a list: accepted, partial, or refused if nothing of it was accepted.

    >>> find_status(2, 0), find_status(2, 1), find_status(0, 1), find_status(0, 0)
    ('accepted', 'partial', 'refused', 'accepted')
    """
    if not refused:
        return "accepted"
    return "partial" if accepted else "refused"


class IngestResult(Struct, frozen=True, omit_defaults=True):
    """Outcome of a request with events; `accepted` includes `repeated`."""

    accepted: Annotated[int, Meta(description="Events that are durable in the log, duplicates included.")]
    repeated: Annotated[int, Meta(description="Duplicates: events whose `event_id` was accepted before.")]
    refused: Annotated[list[RefusedRecord], Meta(description="Rejected events; their neighbors are accepted.")]
    status: Annotated[Status, Meta(description="`partial`: some were refused; `refused`: nothing was accepted.")]
    warnings: Annotated[list[str], Meta(description="Accepted events that look like a mistake.")] = []
    without_consent: Annotated[
        int, Meta(description="Events that were dropped: they or their user do not consent.")
    ] = 0


class Retraction(Struct, frozen=True):
    """An accepted retraction; it takes effect with the events before it."""

    event_id: Annotated[str, Meta(description="Id of the event that is taken back.")]
    status: Annotated[Literal["accepted"], Meta(description="The retraction is durable.")]


class PutResult(Struct, frozen=True):
    """Outcome of a request that writes items."""

    accepted: Annotated[int, Meta(description="Items that were written.")]
    refused: Annotated[list[RefusedRecord], Meta(description="Rejected items; their neighbors are accepted.")]
    status: Annotated[Status, Meta(description="`partial`: some were refused; `refused`: nothing was accepted.")]


class SimilarItem(Struct, frozen=True):
    """A neighbor of an item; higher scores are more similar."""

    item_id: Annotated[str, Meta(description="Id of the neighbor.")]
    score: Annotated[
        float,
        Meta(
            description="0 to 1: the share of the item's co-visits that are with this neighbor. While co-visits are"
            " few, it is mixed with the similarity of categories and price. 0: found by sessions or embeddings only."
        ),
    ]


class SimilarItems(Struct, frozen=True, omit_defaults=True):
    """Neighbors of an item, best first."""

    item_id: Annotated[str, Meta(description="Id of the item in the path.")]
    items: Annotated[list[SimilarItem], Meta(description="At most `k` neighbors.")]
    reason: Annotated[str | None, Meta(description="Only without items: the reason that there are none.")] = None


class BoardItem(Struct, frozen=True):
    """One position of a board."""

    item_id: Annotated[str, Meta(description="Id of the item.")]


class ItemBoard(Struct, frozen=True, omit_defaults=True):
    """Popular, trending or newest items, best first."""

    items: Annotated[list[BoardItem], Meta(description="At most `k` items.")]
    reason: Annotated[str | None, Meta(description="Only without items: the reason that there are none.")] = None


class OnboardingItem(Struct, frozen=True):
    """An item to ask a newcomer about."""

    item_id: Annotated[str, Meta(description="Id of the item.")]
    coverage: Annotated[
        float,
        Meta(description="Share of the actions on popular items that the answer informs about, beyond those above."),
    ]


class OnboardingItems(Struct, frozen=True, omit_defaults=True):
    """Items to ask a newcomer about, most informative first."""

    items: Annotated[list[OnboardingItem], Meta(description="At most `k` items.")]
    reason: Annotated[str | None, Meta(description="Only without items: the reason that there are none.")] = None


class Lag(Struct, frozen=True):
    """Acknowledged events that recommendations do not reflect yet."""

    events: Annotated[int, Meta(description="Events in all partitions.")]
    partitions: Annotated[dict[str, int], Meta(description="Events by partition.")]
    model_version: Annotated[str, Meta(description="Version that serves: epoch and step.")]


class MetricSample(Struct, frozen=True):
    """One series of a metric."""

    labels: Annotated[dict[str, str], Meta(description="Values of the labels by name.")]
    value: Annotated[float, Meta(description="Current value.")]


class Overview(Struct, frozen=True):
    """Current numbers of the replica that answers, for the console."""

    replica: Annotated[str, Meta(description="Name of the replica; counts of two replicas do not compare.")]
    model_version: Annotated[str, Meta(description="Version that serves: epoch and step.")]
    lag: Annotated[int, Meta(description="Events that were not in the answers when the lag was measured last.")]
    metrics: Annotated[dict[str, list[MetricSample]], Meta(description="Series by the name of the metric.")]


class HistoryEntry(Struct, frozen=True):
    """One event of a user."""

    item_id: Annotated[str, Meta(description="Item of the event.")]
    type: Annotated[str, Meta(description="Type of the event.")]
    ts: Annotated[int, Meta(description="Event time, ms since 1970.")]
    event_id: Annotated[str, Meta(description="Id of the event.")]


class SessionRecord(Struct, frozen=True):
    """Current session of a user."""

    start: Annotated[int, Meta(description="Time of its first event, ms since 1970.")]
    depth: Annotated[int, Meta(description="Actions in it.")]
    last_ts: Annotated[int, Meta(description="Time of its latest event, ms since 1970.")]


class UserRecord(Struct, frozen=True):
    """State of a user: recent events, oldest first, counts of all events by type, attributes."""

    user_id: Annotated[str, Meta(description="Id of the user.")]
    history: Annotated[list[HistoryEntry], Meta(description="Latest events, at least 100 if there are, oldest first.")]
    counts: Annotated[dict[str, int], Meta(description="Events by type since the first one.")]
    attributes: Annotated[dict[str, Any], Meta(description="Attributes, as `PUT` or the topic `users` has them.")]
    session: Annotated[SessionRecord | None, Meta(description="Current session.")] = None
    interests: Annotated[list[str], Meta(description="Declared interests.")] = []
    consent: Annotated[bool, Meta(description="False: nothing else is kept of the user.")] = True
    offset: Annotated[int, Meta(description="Offset of the latest event that this record includes.")] = -1


class UserFields(Struct, frozen=True):
    """Fields of a user; all others are attributes."""

    user_id: Annotated[str, Meta(description="Id in the path; another one is refused.")] = ""
    interests: Annotated[list[str] | None, Meta(description="Declared interests, such as categories.")] = None
    consent: Annotated[
        bool | None, Meta(description="False: nothing of the user is kept or trained, until it is true again.")
    ] = None


class MergeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Account that an anonymous user joins."""

    into: Annotated[str, Meta(description="Id of the account.")]


class MergeResult(Struct, frozen=True):
    """An accepted merge; it takes effect with the events before it."""

    user_id: Annotated[str, Meta(description="Id of the account.")]
    anonymous_id: Annotated[str, Meta(description="Id of the user whose history joins the account.")]
    status: Annotated[Literal["accepted"], Meta(description="The merge is durable.")]


class ItemFields(Item):
    """Fields of an item; `item_id` is that of the path and may be left out."""

    item_id: Annotated[str, Meta(description="Id in the path; another one is refused.")] = ""


class ItemPatch(Struct, frozen=True):
    """Fields of an item that change; others stay, and null removes a field."""

    title: Annotated[str | None, Meta(description="Title.")] = None
    categories: Annotated[list[str] | None, Meta(description="Categories, the main one first.")] = None
    price: Annotated[float | None, Meta(description="Price, from 0.")] = None
    stock: Annotated[int | None, Meta(description="Pieces in stock; 0: it is not recommended.")] = None
    available: Annotated[bool | None, Meta(description="False: it is not recommended.")] = None


class ItemPage(Struct, frozen=True, omit_defaults=True):
    """One page of the catalog."""

    items: Annotated[list[Item], Meta(description="Items with all of their fields.")]
    total: Annotated[int, Meta(description="Items in the catalog.")]
    page_token: Annotated[str | None, Meta(description="Token of the next page; the last page has none.")] = None


class ItemRecord(Item, kw_only=True):
    """An item of the catalog with all of its fields, and the counts of its events."""

    counts: Annotated[dict[str, int], Meta(description="Events by type that the model has learned.")]
    in_catalog: Annotated[bool, Meta(description="False for an item that only events name.")]


class VersionRecord(Struct, frozen=True):
    """A version of the model on disk."""

    version: Annotated[str, Meta(description="Name: epoch and step.")]
    epoch: Annotated[int, Meta(description="Number of rollbacks before it, plus one.")]
    step: Annotated[int, Meta(description="Training steps before it.")]
    parent: Annotated[str | None, Meta(description="Version from which it was trained.")]
    created: Annotated[int | None, Meta(description="Time of its checkpoint, ms since 1970.")]
    offsets: Annotated[dict[str, int], Meta(description="Next offset of the examples that it has not learned.")]
    skip: Annotated[dict[str, Any], Meta(description="Event offsets left out of training, by partition.")]
    skip_impressions: Annotated[dict[str, Any], Meta(description="Offsets of impressions left out, by partition.")]
    metrics: Annotated[dict[str, Any], Meta(description="Progressive metrics at its checkpoint.")]
    open_alarm: Annotated[str, Meta(description="Id of the alarm that was open, or empty.")]
    blocked_reason: Annotated[str, Meta(description="Reason that it must not serve, or empty.")]
    serving: Annotated[bool, Meta(description="True for the version that serves.")]
    damaged: Annotated[bool, Meta(description="True if a file is missing or does not match its checksum.")]
    error: Annotated[str | None, Meta(description="The damage.")]


class RollbackRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Version to go back to.

    With `skip`, the events since then are trained on again, except those at these offsets. Without it, all events since
    then are left out.
    """

    version: Annotated[str, Meta(description="A version that `GET /v1/models` lists.")]
    skip: Annotated[
        Ranges | None, Meta(description="Event offsets to leave out: `[[first, next], …]` by partition.")
    ] = None
    skip_impressions: Annotated[
        Ranges, Meta(description="Offsets of impressions to leave out, with the actions on them, by partition.")
    ] = {}
    reason: Annotated[str, Meta(description="Text for the journal.")] = ""


class RollbackResult(Struct, frozen=True):
    """An accepted rollback; the learner carries it out."""

    version: Annotated[str, Meta(description="Version to which the learner goes back.")]
    epoch: Annotated[int, Meta(description="Epoch that starts with the rollback.")]


class Liveness(Struct, frozen=True):
    """The process runs."""

    status: Literal["alive"]


class Readiness(Struct, frozen=True, omit_defaults=True):
    """The model is loaded and warmed up."""

    status: Literal["ready"]
    model_version: Annotated[str, Meta(description="Version that serves: epoch and step.")]
    items: Annotated[int, Meta(description="Items in the catalog.")]
    installation: Annotated[str, Meta(description="Id that the processes on one log share.")]
    blocked_reason: Annotated[str, Meta(description="Reason that a newer version does not serve.")] = ""
    users_behind: Annotated[
        int, Meta(description="Events that the user store has lost; stream writes them again from the log.")
    ] = 0
    store_problem: Annotated[str, Meta(description="Reason that users cannot be read.")] = ""


class ProblemDocument(Struct, frozen=True):
    """Body of an error response (RFC 9457)."""

    title: Annotated[str, Meta(description="Kind of the error.")]
    status: Annotated[int, Meta(description="HTTP status.")]
    detail: Annotated[str, Meta(description="The invalid field, its value and the expected value.")] = ""
    field: Annotated[str | None, Meta(description="Field or parameter of the request that is invalid.")] = None
    type: Annotated[str, Meta(description="`about:blank`: the title says it all.")] = "about:blank"
    request_id: Annotated[str, Meta(description="Id of the request, as in the header X-Request-Id and the log.")] = ""
