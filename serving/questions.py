"""What a shop's backend may ask, and what it is told."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_K = 1000
Id = Annotated[str, Meta(min_length=1, max_length=256)]


class Filters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Only items that fit all of what is named."""

    categories: list[str] | None = None  # at least one of these
    min_price: float | None = None
    max_price: float | None = None


class Question(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One request for recommendations."""

    user_id: Id
    k: Annotated[int, Meta(ge=1, le=MAX_K)] | None = None  # default 10, or all of `candidates`
    surface: str = ""
    context: dict[str, Any] = {}
    exclude: list[Id] = []
    filters: Filters | None = None
    candidates: Annotated[list[Id], Meta(min_length=1, max_length=MAX_K)] | None = None
    repeats: bool = False
    ts: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    explain: bool = False
    explore: bool = True
    log: bool = True

    @property
    def size(self) -> int:
        if self.k is not None:
            return self.k
        return 10 if self.candidates is None else len(self.candidates)


class Recommended(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of a slate."""

    item_id: str
    score: float
    source: str
    propensity: float
    explored: bool = msgspec.field(default_factory=bool)
    probability: float | None = None
    channels: list[str] | None = None
    features: dict[str, float] | None = None


class Answer(msgspec.Struct, frozen=True):
    """A slate; empty when there is nothing to recommend."""

    impression_id: str
    model_version: str
    stale: bool
    items: list[Recommended]
