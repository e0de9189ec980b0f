"""Split the JSON body of a request into elements, so that an invalid one affects no other."""

import json
import re

import msgspec

_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_whitespace = re.compile(r"[ \t\n\r]*")
_lenient_decoder = json.JSONDecoder()


def is_list(body: bytes) -> bool:
    return body.lstrip(b" \t\n\r")[:1] == b"["


def split_elements(body: bytes) -> list[msgspec.Raw]:
    """Elements of a list, or the single value of the body; ValueError if it is not JSON.

    NaN, Infinity and lone surrogates are not JSON, yet many encoders write them. Their element is returned as it is,
    and its decoder rejects it; the other elements stay valid.

    >>> [bytes(raw) for raw in split_elements(b'[{"a": 1}, NaN]')]
    [b'{"a": 1}', b'NaN']
    """
    text = body.decode()
    try:
        return _list_decoder.decode(text) if is_list(body) else [msgspec.json.decode(text, type=msgspec.Raw)]
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        elements = _split_list(text) if is_list(body) else _split_single(text)
        return [msgspec.Raw(element.encode()) for element in elements]
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _split_single(text: str) -> list[str]:
    _lenient_decoder.decode(text)
    return [text]


def _split_list(text: str) -> list[str]:
    parts = []
    index = text.index("[")
    while text[index] != "]":
        start = _skip_whitespace(text, index + 1)
        _, end = _lenient_decoder.raw_decode(text, start)
        parts.append(text[start:end])
        index = _skip_whitespace(text, end)
        if text[index : index + 1] not in (",", "]"):
            raise ValueError(f"expected a comma or the end of the list at character {index}")
    if _skip_whitespace(text, index + 1) < len(text):
        raise ValueError(f"expected the end of the body after the list, at character {index + 1}")
    return parts


def _skip_whitespace(text: str, index: int) -> int:
    match = _whitespace.match(text, index)
    return match.end() if match else index


def find_invalid_field(value: bytes) -> tuple[str, str] | None:
    """First field with a non-finite number or a lone surrogate, as (reason, detail); or None.

    >>> find_invalid_field(b'{"value": NaN}')
    ('bad_value', "'value' holds a number that is not finite")
    """
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return None
    for name, field in fields.items() if isinstance(fields, dict) else ():
        try:
            json.dumps(field, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "bad_id", f"{name!a} holds a lone surrogate"
        except ValueError:
            return "bad_value", f"{name!a} holds a number that is not finite"
    return None
