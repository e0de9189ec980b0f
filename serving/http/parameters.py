"""Decode query parameters into a struct, and suggest valid names for unknown ones."""

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import unquote_to_bytes

import msgspec
from litestar.datastructures.multi_dicts import MultiDict
from msgspec import inspect

from serving.http.errors import Problem, validation_problem

T = TypeVar("T")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`(?: - at `\$\.?([^`]*)`)?")


def check_encoding(query: bytes) -> None:
    """Raise a 422 problem that names the first parameter that is not percent-encoded UTF-8."""
    for parameter in query.split(b"&"):
        try:
            unquote_to_bytes(parameter).decode()
        except UnicodeDecodeError:
            name = parameter.partition(b"=")[0].decode(errors="replace")
            detail = f"{name} is not percent-encoded UTF-8: {parameter.decode(errors='replace')[:100]!r}"
            raise Problem(422, "Invalid request", detail, field=name) from None


def decode_query(params: MultiDict[Any], query_type: type[T]) -> T:
    """Decode a query; 422 names an unknown, repeated or invalid parameter.

    Lists repeat their parameter; objects are JSON.
    """
    kinds = parameter_kinds(cast(Any, query_type))
    values: dict[str, Any] = {}
    for name in params:
        texts = params.getall(name)
        if kinds.get(name) == "list":
            values[name] = texts
            continue
        if name in kinds and len(texts) > 1:
            raise Problem(422, "Invalid request", f"{name} is given {len(texts)} times; expected once", field=name)
        values[name] = _decode_json(name, texts[0]) if kinds.get(name) == "object" else texts[0]
    try:
        return msgspec.convert(values, query_type, strict=False)
    except msgspec.ValidationError as error:
        message = str(suggest_field(error, query_type)).replace("Object contains unknown field", "unknown parameter")
        raise validation_problem(ValueError(message)) from None


def _decode_json(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Problem(422, "Invalid request", f"{name} must be JSON: {error}", field=name) from None


@cache
def parameter_kinds(query_type: Any) -> dict[str, str]:
    """Kind of each parameter: list, object or scalar."""
    return {field.encode_name: _find_kind(field.type) for field in _iter_fields(inspect.type_info(query_type))}


def _find_kind(field_type: inspect.Type) -> str:
    alternatives = list(_iter_alternatives(field_type))
    if any(isinstance(kind, inspect.ListType) for kind in alternatives):
        return "list"
    is_object = any(isinstance(kind, inspect.DictType | inspect.StructType) for kind in alternatives)
    return "object" if is_object else "scalar"


def suggest_field(error: Exception, body_type: Any) -> Exception:
    """Add the nearest valid name to the error of an unknown field.

    >>> class Request(msgspec.Struct, forbid_unknown_fields=True):
    ...     user_id: str = ""
    >>> try:
    ...     msgspec.json.decode(b'{"userid": "u1"}', type=Request)
    ... except msgspec.ValidationError as error:
    ...     print(suggest_field(error, Request))
    Object contains unknown field `userid`; the nearest valid name is 'user_id'
    """
    match = _UNKNOWN_FIELD.search(str(error))
    names = _find_field_names(body_type, match[2] or "") if match else []
    if not match or not names:
        return error
    by_folded_name = {name.casefold(): name for name in names}
    nearest = difflib.get_close_matches(match[1].casefold(), by_folded_name, 1, 0)[0]
    return ValueError(f"{error}; the nearest valid name is {by_folded_name[nearest]!r}")


def _find_field_names(body_type: Any, path: str) -> list[str]:
    """Names of the fields of a struct at a path such as `filters` or `items[...].context`."""
    structs = [inspect.type_info(body_type)]
    for name in re.findall(r"[^.\[\]]+", path):
        if name == "...":
            continue
        structs = [field.type for kind in structs for field in _iter_fields(kind) if field.encode_name == name]
    return [field.encode_name for kind in structs for field in _iter_fields(kind)]


def _iter_fields(kind: inspect.Type) -> Iterator[inspect.Field]:
    """Fields of a struct, or of the structs in a union, a list or a mapping."""
    for alternative in _iter_alternatives(kind):
        if isinstance(alternative, inspect.StructType):
            yield from alternative.fields
        elif isinstance(alternative, inspect.ListType):
            yield from _iter_fields(alternative.item_type)
        elif isinstance(alternative, inspect.DictType):
            yield from _iter_fields(alternative.value_type)


def _iter_alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Types of a union, without metadata."""
    if isinstance(kind, inspect.Metadata):
        yield from _iter_alternatives(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for alternative in kind.types:
            yield from _iter_alternatives(alternative)
    else:
        yield kind
