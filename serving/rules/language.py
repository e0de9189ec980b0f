"""Language of rules: the fields of a request, and of the settings of a surface."""

from collections import Counter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from serving.filters.language import Filters
from stream.records.events import validate_id

MAX_POSITIONS = 1000
ActionType = Literal["view", "click", "like", "dislike", "cart", "purchase", "dwell", "rating"]
_Probability = Annotated[float, Meta(ge=0, le=1)]
_Cap = Annotated[int, Meta(ge=1, le=MAX_POSITIONS)]


class HiddenActions(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Actions of the user whose items are hidden."""

    types: Annotated[list[ActionType], Meta(min_length=1, description="Types of the actions.")]
    max_age: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Seconds since the action for which the item is hidden; by default for good."),
    ] = None


class Boost(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """A factor on the click probability of the items that pass a filter."""

    filters: Annotated[Filters, Meta(description="Conditions of the items.")]
    factor: Annotated[float, Meta(ge=0.001, le=1000, description="Above 1 they rank higher, below 1 lower.")]


class Freshness(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """A factor on the click probability of new items, which fades with their age."""

    factor: Annotated[float, Meta(ge=1, le=1000, description="Of an item that was just created.")]
    half_life: Annotated[float, Meta(ge=1, description="Seconds after which half of the factor's effect is left.")]


class Fatigue(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """A factor on the click probability of items that the user has been shown often."""

    shown: Annotated[int, Meta(ge=1, le=64, description="Times without an effect, among the latest 64 items shown.")]
    factor: Annotated[float, Meta(ge=0.001, le=1, description="For each further time.")]


class Pin(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """An item with a fixed position."""

    position: Annotated[int, Meta(ge=0, le=MAX_POSITIONS - 1, description="Position in the slate, from 0.")]
    item_id: Annotated[str, Meta(description="Id of the item.")]


_Boosts = Annotated[list[Boost], Meta(max_length=20)]
_Pins = Annotated[list[Pin], Meta(max_length=100)]
Hide = list[ActionType | HiddenActions]


class Rules(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True, kw_only=True):
    """Rules of a slate; one that is not set is that of the surface, an empty one is off."""

    boosts: Annotated[_Boosts | None, Meta(description="Factors on click probabilities.")] = None
    freshness: Annotated[Freshness | None, Meta(description="A factor for new items.")] = None
    fatigue: Annotated[Fatigue | None, Meta(description="A factor for items that were shown again and again.")] = None
    diversity: Annotated[
        _Probability | None, Meta(description="0: by score; 1: by dissimilarity of categories to the items above.")
    ] = None
    caps: Annotated[
        dict[str, _Cap] | None,
        Meta(description="Most items of a slate with the same value of a field, such as `creator` or `categories`."),
    ] = None
    pins: Annotated[_Pins | None, Meta(description="Items with a fixed position; their propensity is 1.")] = None

    def __post_init__(self) -> None:
        for pin in self.pins or ():
            if error := validate_id("item_id", pin.item_id):
                raise ValueError(f"rules.pins: {error[1]}")
        _check_distinct("position", [pin.position for pin in self.pins or ()])
        _check_distinct("item_id", [pin.item_id for pin in self.pins or ()])


class SurfaceRules(Rules, frozen=True, omit_defaults=True, kw_only=True):
    """Settings of a surface, and the rules of one request after both are combined."""

    hide: Hide | None = None
    min_probability: _Probability | None = None


def _check_distinct(name: str, values: list[Any]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"rules.pins has {name} {value!r} {count} times; expected each once")
