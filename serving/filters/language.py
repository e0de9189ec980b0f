"""Language of filters: conditions on the fields of an item, and their combinations."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stream.records.timestamps import parse_request_time

Value = str | float | bool
_MAX_CONDITIONS = 100


class AttributeCondition(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Conditions that all hold for one attribute; an item without it does not pass."""

    equal: Annotated[Value | None, Meta(description="The attribute, or a value of its list, is this one.")] = None
    is_in: Annotated[list[Value] | None, Meta(description="It is one of these values.")] = msgspec.field(
        default=None, name="in"
    )
    contains: Annotated[list[Value] | None, Meta(description="The list of the attribute has all of these values.")] = (
        None
    )
    min: Annotated[float | None, Meta(description="Lowest number.")] = None
    max: Annotated[float | None, Meta(description="Highest number.")] = None

    def __post_init__(self) -> None:
        _check_range("min", self.min, "max", self.max)
        if all(getattr(self, name) is None for name in self.__struct_fields__):
            raise ValueError("the condition is empty; expected equal, in, contains, min or max with a value")
        if self.contains is not None and not self.contains:
            raise ValueError("contains is []; expected at least one value")


class Filters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Conditions that every returned item meets; a condition that is not set passes all items."""

    categories: Annotated[list[str] | None, Meta(description="At least one of these categories.")] = None
    all_categories: Annotated[list[str] | None, Meta(description="All of these categories.")] = None
    not_categories: Annotated[list[str] | None, Meta(description="None of these categories.")] = None
    creators: Annotated[list[str] | None, Meta(description="One of these creators.")] = None
    not_creators: Annotated[
        list[str] | None, Meta(description="None of these creators; items without a creator pass.")
    ] = None
    min_price: Annotated[float | None, Meta(description="Lowest price; items without a price do not pass.")] = None
    max_price: Annotated[float | None, Meta(description="Highest price; items without a price do not pass.")] = None
    min_stock: Annotated[float | None, Meta(description="Lowest stock; items without a stock do not pass.")] = None
    created_after: Annotated[
        int | str | None, Meta(description="Earliest `created_ts`: ms since 1970, or ISO 8601 text.")
    ] = None
    created_before: Annotated[
        int | str | None, Meta(description="Latest `created_ts`: ms since 1970, or ISO 8601 text.")
    ] = None
    attributes: Annotated[
        dict[str, AttributeCondition | Value | list[Value]] | None,
        Meta(description="Conditions by field of the item: a value, a list of which one holds, or an object."),
    ] = None
    all_of: Annotated[list["Filters"] | None, Meta(description="Filters that all pass.")] = msgspec.field(
        default=None, name="and"
    )
    any_of: Annotated[list["Filters"] | None, Meta(description="Filters of which at least one passes.")] = (
        msgspec.field(default=None, name="or")
    )
    none_of: Annotated["Filters | None", Meta(description="A filter that does not pass.")] = msgspec.field(
        default=None, name="not"
    )

    def __post_init__(self) -> None:
        _check_range("min_price", self.min_price, "max_price", self.max_price)
        times = (("created_after", self.created_after), ("created_before", self.created_before))
        after, before = (None if time is None else parse_request_time(name, time) for name, time in times)
        if after is not None and before is not None and after > before:
            raise ValueError("created_after is later than created_before; expected an earlier time, or the same")
        if count_conditions(self) > _MAX_CONDITIONS:
            raise ValueError(f"filters has more than {_MAX_CONDITIONS} conditions; expected fewer")

    @property
    def children(self) -> list["Filters"]:
        """Filters that this one combines."""
        return [*(self.all_of or ()), *(self.any_of or ()), *([self.none_of] if self.none_of else [])]


def count_conditions(filters: Filters) -> int:
    """Number of conditions, of which each filter counts as at least one."""
    set_fields = sum(getattr(filters, name) is not None for name in filters.__struct_fields__)
    return max(1, set_fields) + len(filters.attributes or ()) + sum(map(count_conditions, filters.children))


def _check_range(low_name: str, low: float | None, high_name: str, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError(f"{low_name} {low:g} is above {high_name} {high:g}; expected at most {high_name}")
