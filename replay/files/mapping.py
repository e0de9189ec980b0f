"""Mappings: which column becomes which field, in the words of `--map`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

Conversion = Literal["text", "time", "number", "integer", "list", "numbers", "flag", "type"]
_CONVERSIONS: dict[str, Conversion] = {
    "ts": "time",
    "created_ts": "time",
    "available_from": "time",
    "expires_ts": "time",
    "value": "number",
    "price": "number",
    "propensity": "number",
    "position": "integer",
    "quantity": "integer",
    "stock": "integer",
    "categories": "list",
    "items": "list",
    "sources": "list",
    "propensities": "numbers",
    "available": "flag",
    "deleted": "flag",
    "type": "type",
}
_EXPECTED = "FIELD=COLUMN or FIELD=COLUMN:FORMAT, as in ts=timestamp:s"


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Source of one field.

    >>> FieldMap.parse("ts", "timestamp:s").format, FieldMap.parse("surface", '"home"').constant
    ('s', 'home')
    """

    target: str  # a field, or context.NAME
    columns: tuple[str, ...] = ()  # the first that has a value, or all of them
    join: Literal["first", "text", "list"] = "first"
    constant: str | None = None
    format: str = ""  # unit or pattern of a time, separator of a list, /pattern/ to remove, names of types

    @classmethod
    def parse(cls, target: str, source: str, known_columns: Sequence[str] = ()) -> Self:
        """Parse the text behind `FIELD=`; a column whose name has a colon must be known."""
        if len(source) > 1 and source[0] == source[-1] == '"':
            return cls(target, constant=source[1:-1])
        name = next((name for name in sorted(known_columns, key=len, reverse=True) if _begins(source, name)), "")
        columns, _, format = (name, ":", source[len(name) + 1 :]) if name else source.partition(":")
        for separator, join in (("+", "text"), ("&", "list"), (",", "first")):
            if separator in columns and columns not in known_columns:
                return cls(target, tuple(columns.split(separator)), join, None, format)  # type: ignore[arg-type]
        return cls(target, (columns,), "first", None, format)

    @property
    def conversion(self) -> Conversion:
        return _CONVERSIONS.get(self.target, "text")

    @property
    def separator(self) -> str:
        """Separator of a list, the part of the format before a pattern."""
        return self.format if self.format == "/" else self.format.partition("/")[0]

    @property
    def removed_pattern(self) -> str:
        """Regular expression of the text to remove; empty = none."""
        match = re.search(r"/(.+)/$", self.format)
        return match[1] if match else ""

    @property
    def types(self) -> dict[str, str]:
        """Event types by their name in the file."""
        pairs = [pair.partition("=") for pair in self.format.split(",") if pair]
        return {name: type_name for name, _, type_name in pairs}


def _begins(source: str, name: str) -> bool:
    return source == name or source.startswith(f"{name}:")


def parse_map(text: str) -> tuple[str, str]:
    """Split an argument of `--map`; ValueError unless it has a field and a source."""
    target, _, source = text.partition("=")
    is_field = re.fullmatch(r"[A-Za-z_]\w*(\.[\w-]+)?", target)
    if not is_field or not source or (source.startswith('"') and not re.fullmatch(r'"[^"]*"', source)):
        raise ValueError(f"--map {text}: expected {_EXPECTED}, or FIELD='\"text\"' for a constant")
    return target, source


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Records that one row of a file becomes: their fields, and the rows that have them."""

    fields: Mapping[str, str]  # source by field, in the words of `--map`
    where: str = ""  # COLUMN=VALUE, COLUMN!=VALUE or COLUMN~PATTERN; empty = every row
    each: str = ""  # column of a list, one record for each element; COLUMN:SEPARATOR if it is text

    def field_maps(self, known_columns: Sequence[str]) -> list[FieldMap]:
        return [FieldMap.parse(target, source, known_columns) for target, source in self.fields.items()]
