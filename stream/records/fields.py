"""Fields of items and users as hashed keys: a name and a value in 64 bits."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream.ids import hash_id

N_ITEM_KEYS = 32  # keys per item
N_USER_KEYS = 16  # keys per user
VALUE_BITS = 44  # low bits of a key: the value; the bits above are the name
_MAX_TEXT = 64  # characters; a longer text is no category
_ITEM_LIMITS = {"categories": 12, "tags": 8, "attributes": 12}  # keys of each part, so that none takes all places
_USER_LIST = 8  # values of one list
_OWN_PARTS = frozenset({"creator", "categories", "tags", "title"})
_NO_FIELDS = frozenset({"item_id", "available", "stock", "created_ts", "available_from", "expires_ts"}) | _OWN_PARTS
_WORD = re.compile(r"\w+")
_decoder = msgspec.json.Decoder(dict[str, Any])


class FieldKeys(NamedTuple):
    """Distinct keys of one item or user, in order of importance."""

    keys: list[int]
    left_out: int  # keys beyond the limits


@lru_cache(4096)
def field_id(name: str) -> int:
    """Number of a field, 1 to 2**20 - 1, from the hash of its name."""
    return (hash_id(name) >> VALUE_BITS) or 1


def field_key(name: str, value: str) -> int:
    """Key of a value: the field in the high bits, the value in the low ones.

    Equal values of two fields have equal low bits, so that interests can be compared with categories and tags.

    >>> field_key("tags", "Jazz") >> VALUE_BITS == field_id("tags")
    True
    >>> (field_key("tags", "Jazz") ^ field_key("interests", "jazz ")) & ((1 << VALUE_BITS) - 1)
    0
    """
    return field_id(name) << VALUE_BITS | hash_id(value.strip().casefold()) >> (64 - VALUE_BITS)


def fold_keys(keys: np.ndarray) -> np.ndarray:
    """Shorten keys, uint64 of any shape, to uint32; 0 stays 0, and no other key becomes 0."""
    mixed = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return np.where(keys == 0, np.uint64(0), np.maximum(mixed, np.uint64(1))).astype(np.uint32)


def item_field_keys(raw: bytes) -> FieldKeys:
    """Keys of an item's JSON, at most N_ITEM_KEYS.

    In this order: creator, categories, tags, other fields by name, words and word bigrams of the title. Numbers are
    bucketed. Long texts, lists of numbers and values that are not finite are no fields.
    """
    item = _decode(raw)
    parts = {
        "creator": _value_keys("creator", item.get("creator")),
        "categories": _value_keys("categories", item.get("categories")),
        "tags": _value_keys("tags", item.get("tags")),
        "attributes": _attribute_keys(item, _NO_FIELDS),
        "title": (field_key("title", gram) for gram in _ngrams(item.get("title"))),
    }
    keys: list[int] = []
    left_out = 0
    for name, part in parts.items():
        distinct = list(dict.fromkeys(part))
        limit = min(_ITEM_LIMITS.get(name, N_ITEM_KEYS), N_ITEM_KEYS - len(keys))
        keys += distinct[:limit]
        left_out += max(0, len(distinct) - limit)
    return FieldKeys(keys, left_out)


@lru_cache(8192)
def user_field_keys(attributes: bytes) -> np.ndarray:
    """Keys of a user's attributes in JSON, (N_USER_KEYS,) uint64, 0 = none.

    Interests come first, then the other attributes by name.
    """
    row = np.zeros(N_USER_KEYS, np.uint64)
    if attributes:
        user = _decode(attributes)
        interests = list(_value_keys("interests", user.get("interests")))[:_USER_LIST]
        keys = list(dict.fromkeys((*interests, *_attribute_keys(user, {"interests", "consent"}, _USER_LIST))))[
            :N_USER_KEYS
        ]
        row[: len(keys)] = keys
    row.flags.writeable = False
    return row


def _decode(raw: bytes) -> dict[str, Any]:
    """Fields of a JSON object; none if a number is out of range, or the nesting too deep."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return {}


def bucket_number(value: float) -> str:
    """Text of a number's bucket, about 19 % wide.

    >>> bucket_number(34), bucket_number(35), bucket_number(-34)
    ('21', '21', '-21')
    """
    return str(int(math.copysign(round(4 * math.log2(1 + abs(value))), value)))


def _attribute_keys(values: Mapping[str, Any], excluded: Iterable[str], max_list: int = N_ITEM_KEYS) -> Iterator[int]:
    for name in sorted(values.keys() - set(excluded)):
        value = values[name]
        if isinstance(value, dict):
            prefix = "" if name == "attributes" else f"{name}."
            for entry in sorted(value):
                yield from list(_value_keys(f"{prefix}{entry}", value[entry]))[:max_list]
        else:
            yield from list(_value_keys(name, value))[:max_list]


def _value_keys(name: str, value: Any) -> Iterator[int]:
    """Keys of a text, number or truth value, or of a list with texts."""
    if isinstance(value, list):
        if any(isinstance(element, str) for element in value):
            yield from (field_key(name, text) for element in value if (text := _to_text(element)))
    elif text := _to_text(value):
        yield field_key(name, text)


def _to_text(value: Any) -> str:
    """Text of a value, "" for one that is no category."""
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float) and abs(value) < 1e300:  # false for NaN
        return "#" + bucket_number(float(value))
    return ""


def _ngrams(title: Any) -> list[str]:
    words = _WORD.findall(title.casefold())[:N_ITEM_KEYS] if isinstance(title, str) else []
    return [*words, *(f"{a} {b}" for a, b in pairwise(words))]
