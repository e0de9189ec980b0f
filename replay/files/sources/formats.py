"""Detect the format of a file from its first bytes."""

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

FormatName = Literal["json_lines", "json_values", "delimited", "parquet"]
_N_LINES = 100
_SEPARATORS = (",", ";", "|")
_WRAPPERS = "products|orders|customers|items|events|users|data|results|records"
# An object whose only field is a list of records, as the APIs of shops return it.
_WRAPPER = re.compile(rb'\s*\{\s*"(?:' + _WRAPPERS.encode() + rb')"\s*:\s*(?=\[)')


@dataclass(frozen=True, slots=True)
class Format:
    """Format of a file."""

    name: FormatName
    separator: str = ""  # of columns
    start: int = 0  # bytes before the first JSON array

    @property
    def unit(self) -> str:
        """Word for one record in messages."""
        return {"json_lines": "line", "json_values": "record"}.get(self.name, "row")


def detect_format(head: bytes) -> Format:
    """Detect the format; a file with a JSON object among its first lines is JSON."""
    if head.startswith(b"PAR1"):
        return Format("parquet")
    lines = first_lines(head)
    if head.lstrip()[:1] == b"[" and not (_is_json(lines[0]) and any(map(_decode_object, lines))):
        return Format("json_values")
    if not any(line.startswith(b"{") for line in lines):
        return Format("delimited", _detect_separator(lines[0].decode(errors="replace") if lines else ""))
    if wrapper := _WRAPPER.match(head):
        values = _decode_object(lines[0])
        if values is None or len(values) == 1:
            return Format("json_values", start=wrapper.end())
    starts_pretty = lines[0].startswith(b"{") and _decode_object(lines[0]) is None
    if starts_pretty and not any(_decode_object(line) is not None for line in lines) and b"\n" in head.strip():
        return Format("json_values")
    return Format("json_lines")


def first_lines(head: bytes) -> list[bytes]:
    """First lines that are not blank, stripped; a line that the head cuts is left out."""
    lines = head.split(b"\n")[: _N_LINES + 1]
    complete = lines[:-1] if len(lines) > 1 and lines[-1] else lines
    return [line.strip().rstrip(b",") for line in complete if line.strip()]


def _is_json(line: bytes) -> bool:
    """Return True for a whole value; the first line of a long array is none."""
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _decode_object(line: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _detect_separator(line: str) -> str:
    """Separator of columns: `::`, a tab, or the most frequent of the others."""
    if line.count("::") > 1:
        return "::"
    return "\t" if "\t" in line else max(_SEPARATORS, key=line.count)
