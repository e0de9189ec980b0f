"""What stands in the body of a request: one JSON value, or a list whose elements are judged one by one."""

import json
import re

import msgspec

_raws = msgspec.json.Decoder(list[msgspec.Raw])
_space = re.compile(r"[ \t\n\r]*")
_lenient = json.JSONDecoder()


def is_list(body: bytes) -> bool:
    return body.lstrip(b" \t\n\r")[:1] == b"["


def elements(body: bytes) -> list[msgspec.Raw]:
    """The elements of a list, or the one value that the body is; ValueError if it is not JSON in UTF-8.

    NaN, Infinity and half a surrogate pair are not JSON, yet many writers send them. They spoil their own element,
    which is handed on for whoever decodes it to refuse, and none of its neighbours.

    >>> [bytes(raw) for raw in elements(b'[{"a": 1}, NaN]')]
    [b'{"a": 1}', b'NaN']
    """
    text = body.decode()
    try:
        return _raws.decode(text) if is_list(body) else [msgspec.json.decode(text, type=msgspec.Raw)]
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return [msgspec.Raw(piece.encode()) for piece in (_pieces(text) if is_list(body) else _whole(text))]
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(text: str) -> list[str]:
    _lenient.decode(text)
    return [text]


def _pieces(text: str) -> list[str]:
    pieces = []
    at = text.index("[")
    while text[at] != "]":
        begin = _after_space(text, at + 1)
        _, end = _lenient.raw_decode(text, begin)
        pieces.append(text[begin:end])
        at = _after_space(text, end)
        if text[at : at + 1] not in (",", "]"):
            raise ValueError(f"a comma or the end of the list is expected at character {at}")
    if _after_space(text, at + 1) < len(text):
        raise ValueError(f"nothing more is expected after the list, at character {at + 1}")
    return pieces


def _after_space(text: str, at: int) -> int:
    found = _space.match(text, at)
    return found.end() if found else at


def fault_of(value: bytes) -> tuple[str, str] | None:
    """The field that holds a NaN or half a surrogate pair, as (reason, sentence); None: something else is wrong.

    >>> fault_of(b'{"value": NaN}')
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
