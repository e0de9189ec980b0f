import msgspec
import numpy as np
import pytest

from stream.records.fields import (
    N_ITEM_KEYS,
    N_USER_KEYS,
    bucket_number,
    field_key,
    fold_keys,
    item_field_keys,
    user_field_keys,
)


def test_item_keys_are_creator_categories_tags_attributes_and_title() -> None:
    item = {
        "item_id": "i", "title": "Blue desk lamp", "creator": "acme", "categories": ["a", "b", "c", "d", "e"],
        "tags": ["new"], "attributes": {"color": "red", "watts": 40}, "available": True,
    }  # fmt: skip
    expected = [
        ("creator", "acme"), *(("categories", name) for name in "abcde"), ("tags", "new"), ("color", "red"),
        ("watts", "#" + bucket_number(40)), *(("title", word) for word in ("blue", "desk", "lamp", "blue desk")),
        ("title", "desk lamp"),
    ]  # fmt: skip

    assert item_field_keys(msgspec.json.encode(item)) == ([field_key(*pair) for pair in expected], 0)


def test_an_item_with_1000_categories_keeps_its_other_keys() -> None:
    item = {"item_id": "i", "categories": [f"c{i}" for i in range(1000)], "tags": ["t"], "creator": "x"}
    keys, left_out = item_field_keys(msgspec.json.encode(item))

    assert left_out == 1000 - 12
    assert {field_key("creator", "x"), field_key("tags", "t"), field_key("categories", "c0")} <= set(keys)
    assert len(keys) <= N_ITEM_KEYS


@pytest.mark.parametrize(
    "value", ["x" * 1000, [0.1] * 384, None, {}, [], [[1]], "", 1e301, "\N{OBJECT REPLACEMENT CHARACTER}" * 65]
)
def test_values_that_are_no_category_give_no_key(value: object) -> None:
    assert item_field_keys(msgspec.json.encode({"item_id": "i", "attributes": {"a": value}})).keys == []


def test_a_field_that_changes_type_has_a_key_of_each_type() -> None:
    keys = [item_field_keys(b'{"item_id":"i","size":%s}' % value).keys for value in (b"1", b'"1"', b"true", b'["1"]')]

    assert keys[1] == keys[3]
    assert len({tuple(key) for key in keys}) == 3


def test_user_keys_start_with_interests_and_are_bounded() -> None:
    attributes = {"country": "de", "interests": ["jazz"]} | {f"x{i}": i for i in range(100)}
    keys = user_field_keys(msgspec.json.encode(attributes))

    assert keys.shape == (N_USER_KEYS,)
    assert keys[:2].tolist() == [field_key("interests", "jazz"), field_key("country", "de")]
    assert not user_field_keys(b"").any()


def test_folded_keys_are_zero_for_missing_ones_only() -> None:
    keys = np.array([[0, 1], [field_key("a", "b"), 1 << 63]], np.uint64)

    assert (fold_keys(keys) == 0).tolist() == [[True, False], [False, False]]
