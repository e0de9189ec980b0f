"""Requests and responses of the recommendation API."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from serving.filters.language import Filters
from serving.pipeline.pages import decode_page
from serving.rules.language import Hide, Rules, SurfaceRules
from stream.ids import hash_ids
from stream.records.events import name_user, validate_id
from stream.records.timestamps import parse_request_time
from stream.users.profiles import Profile

MAX_K = 1000
_MAX_CONTEXT_BYTES = 16 << 10  # bytes of JSON: each impression carries it


_Size = Annotated[int, Meta(ge=1, le=MAX_K)]
_Candidates = Annotated[list[str], Meta(max_length=MAX_K)]
_Basket = Annotated[list[str], Meta(max_length=100)]


class RecommendationRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """A request for a slate of up to `k` items for a user."""

    user_id: Annotated[str | None, Meta(description="The user; an unknown one gets the slate of a new user.")] = None
    session_id: Annotated[
        str | None, Meta(description="Session; without `user_id`, an anonymous user with a history of its own.")
    ] = None
    consent: Annotated[bool, Meta(description="False: no history is read, and nothing of the request is kept.")] = True
    k: Annotated[_Size | None, Meta(description="Maximum number of items; by default 10, or all of `candidates`.")] = (
        None
    )
    items: Annotated[_Basket, Meta(description="A basket: recommend what goes with these items, the latest last.")] = []
    page_token: Annotated[
        str | None, Meta(description="Of the response before: the next page, without the items of earlier pages.")
    ] = None
    surface: Annotated[
        str, Meta(max_length=256, description="Place where the slate is shown, such as `home`; it is logged.")
    ] = ""
    context: Annotated[dict[str, Any], Meta(description="Circumstances, such as the device; at most 16 KiB.")] = {}
    exclude: Annotated[list[str], Meta(description="Items that must not be in the slate.")] = []
    filters: Annotated[Filters | None, Meta(description="Conditions that every item meets.")] = None
    candidates: Annotated[_Candidates | None, Meta(description="Rank exactly these items.")] = None
    fields: Annotated[list[str], Meta(description="Fields of the catalog to return with each item.")] = []
    repeats: Annotated[bool, Meta(description="Allow items that the user has interacted with.")] = False
    hide: Annotated[
        Hide | None,
        Meta(description="Actions of the user whose items are hidden; by default all. Disliked items are always."),
    ] = None
    min_probability: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="Lowest click probability; fewer items if need be.")
    ] = None
    rules: Annotated[Rules | None, Meta(description="Rules of the slate, before those of the surface.")] = None
    ts: Annotated[
        int | str | None, Meta(description="Event time: ms since 1970, or ISO 8601 text; by default now.")
    ] = None
    explain: Annotated[bool, Meta(description="Add channels, features and estimates to each item.")] = False
    explore: Annotated[bool, Meta(description="Allow exploration; without it, equal requests get equal slates.")] = True
    log: Annotated[bool, Meta(description="Log the impression; without it, the request trains nothing.")] = True

    def __post_init__(self) -> None:
        names = {"user_id": self.user_id, "session_id": self.session_id}
        ids = {field: [name] for field, name in names.items() if name is not None}
        ids |= {"exclude": self.exclude, "candidates": self.candidates or [], "items": self.items}
        for field, value in ((field, value) for field, values in ids.items() for value in values):
            if error := validate_id(field, value):
                raise ValueError(error[1])
        if self.context and (size := len(msgspec.json.encode(self.context))) > _MAX_CONTEXT_BYTES:
            raise ValueError(f"context has {size} bytes of JSON; expected at most {_MAX_CONTEXT_BYTES}")
        if self.ts is not None:
            parse_request_time("ts", self.ts)
        if self.page_token is not None:
            decode_page(self.page_token)
        if self.rules is not None:
            _check_pins(self.rules, self.size, self.exclude)

    def event_ts(self, now: int) -> int:
        """Event time, ms; `now` if the request names none."""
        return now if self.ts is None else parse_request_time("ts", self.ts)

    @property
    def excluded_keys(self) -> np.ndarray:
        """Keys, (n,) uint64: `exclude`, the basket, and the items of earlier pages."""
        keys = hash_ids([*self.exclude, *self.items])
        return keys if self.page_token is None else np.concatenate([keys, decode_page(self.page_token)])

    @property
    def user(self) -> str:
        """Id of the user or of an anonymous session; empty for nobody and without consent."""
        return name_user(self.user_id, self.session_id) if self.consent else ""

    @property
    def size(self) -> int:
        if self.k is not None:
            return self.k
        return 10 if self.candidates is None else len(self.candidates)


def _check_pins(rules: Rules, size: int, exclude: list[str]) -> None:
    for pin in rules.pins or ():
        if pin.position >= size:
            raise ValueError(f"rules.pins has position {pin.position}; expected below the {size} items of the slate")
        if pin.item_id in exclude:
            raise ValueError(f"rules.pins and exclude both have item {pin.item_id!r}; remove it from one of them")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request with the user's profile at event time `ts`, ms."""

    request: RecommendationRequest
    impression_id: str
    user_key: int
    profile: Profile
    is_stale: bool
    ts: int
    is_private: bool = False  # the request, or its user, does not consent: no impression is logged
    rules: SurfaceRules | None = None  # of the surface and the request; None: there are none
    hidden: np.ndarray | None = None  # keys of the items that `hide` excludes; None: there is no `hide`

    @property
    def batch_key(self) -> tuple[int, bool, bool, int]:
        """Key of requests that share one run of the pipeline; none affects another."""
        request = self.request
        return self.ts, request.candidates is None, request.explore, request.size


class ExplorationDetail(msgspec.Struct, frozen=True):
    """Exploration's estimate for an item that may be drawn; see `explain`."""

    ranker_probability: Annotated[
        float, Meta(description="Click probability by the ranker; linear policies correct it by the item's category.")
    ]
    mean: Annotated[
        float, Meta(description="Click probability with the counts of similar items and of the item itself.")
    ]
    std: Annotated[float, Meta(description="Standard deviation of the same.")]
    selection_probability: Annotated[float, Meta(description="Of this item in the first draw of the slate.")]


class RecommendedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One position of a slate."""

    item_id: Annotated[str, Meta(description="Id of the item.")]
    score: Annotated[float, Meta(description="Score of the ranker, comparable within the slate.")]
    source: Annotated[str, Meta(description="Channel or policy that found the item.")]
    propensity: Annotated[
        float, Meta(description="Probability of this item in this position, given the positions above.")
    ]
    explored: Annotated[bool, Meta(description="True if exploration filled the position.")] = msgspec.field(
        default_factory=bool
    )
    fields: Annotated[dict[str, Any] | None, Meta(description="The requested fields that the item has.")] = None
    probability: Annotated[float | None, Meta(description="Click probability; with `explain`.")] = None
    channels: Annotated[list[str] | None, Meta(description="All channels that found it; with `explain`.")] = None
    features: Annotated[dict[str, float] | None, Meta(description="Features by name; with `explain`.")] = None
    exploration: Annotated[ExplorationDetail | None, Meta(description="Estimate of exploration; with `explain`.")] = (
        None
    )


class RecommendationResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A slate; empty when there is nothing to recommend."""

    impression_id: Annotated[str, Meta(description="Send it with the actions on these items.")]
    model_version: Annotated[str, Meta(description="Version of the model that ranked them: epoch and step.")]
    stale: Annotated[bool, Meta(description="True if the user store is unavailable or behind the user's events.")]
    items: Annotated[list[RecommendedItem], Meta(description="The slate, best first.")]
    reason: Annotated[
        str | None, Meta(description="Reason that there are no items, or few because of `min_probability`.")
    ] = None
    page_token: Annotated[str | None, Meta(description="Token of the next page; none if there are no more items.")] = (
        None
    )
    rules_applied: Annotated[
        dict[str, int] | None, Meta(description="Only with rules: items that each of them affected, by its name.")
    ] = None
