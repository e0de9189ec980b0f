"""Requests and responses of the recommendation API."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from stream.records.events import validate_id
from stream.users.profiles import Profile

MAX_K = 1000
_MAX_CONTEXT_BYTES = 16 << 10  # bytes of JSON: each impression carries it


class Filters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Conditions that every returned item meets; a condition that is not set passes all items."""

    categories: list[str] | None = None  # at least one of these
    min_price: float | None = None
    max_price: float | None = None


class RecommendationRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """A request for a slate of up to `k` items for a user."""

    user_id: str
    k: Annotated[int, Meta(ge=1, le=MAX_K)] | None = None  # default 10, or all of `candidates`
    surface: Annotated[str, Meta(max_length=256)] = ""
    context: dict[str, Any] = {}
    exclude: list[str] = []
    filters: Filters | None = None
    candidates: Annotated[list[str], Meta(max_length=MAX_K)] | None = None  # rank exactly these
    repeats: bool = False  # allow items that the user has interacted with
    ts: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None  # event time, ms; default now
    explain: bool = False
    explore: bool = True
    log: bool = True

    def __post_init__(self) -> None:
        ids = {"user_id": [self.user_id], "exclude": self.exclude, "candidates": self.candidates or []}
        for field, value in ((field, value) for field, values in ids.items() for value in values):
            if error := validate_id(field, value):
                raise ValueError(error[1])
        if self.context and (size := len(msgspec.json.encode(self.context))) > _MAX_CONTEXT_BYTES:
            raise ValueError(f"context has {size} bytes of JSON; expected at most {_MAX_CONTEXT_BYTES}")

    @property
    def size(self) -> int:
        if self.k is not None:
            return self.k
        return 10 if self.candidates is None else len(self.candidates)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request with the user's profile at event time `ts`, ms."""

    request: RecommendationRequest
    impression_id: str
    user_key: int
    profile: Profile
    is_stale: bool
    ts: int

    @property
    def batch_key(self) -> tuple[int, bool, bool, int]:
        """Key of requests that share one run of the pipeline; none affects another."""
        request = self.request
        return self.ts, request.candidates is None, request.explore, request.size


class ExplorationDetail(msgspec.Struct, frozen=True):
    """Exploration's estimate for an item that may be drawn; see `explain`."""

    ranker_probability: float  # click probability by the ranker; linear policies correct it by the item's category
    mean: float  # click probability with the counts of similar items and of the item itself
    std: float  # standard deviation of the same
    selection_probability: float  # of this item in the first draw of the slate


class RecommendedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One position of a slate."""

    item_id: str
    score: float
    source: str
    propensity: float
    explored: bool = msgspec.field(default_factory=bool)
    probability: float | None = None
    channels: list[str] | None = None
    features: dict[str, float] | None = None
    exploration: ExplorationDetail | None = None


class RecommendationResponse(msgspec.Struct, frozen=True):
    """A slate; empty when there is nothing to recommend."""

    impression_id: str
    model_version: str
    stale: bool
    items: list[RecommendedItem]
