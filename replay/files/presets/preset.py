"""A preset: the mapping of a known layout."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

import polars as pl

from replay.files.kinds import Kind
from replay.files.mapping import RowSelection


@dataclass(frozen=True, slots=True)
class Join:
    """Second file in the same folder, joined by a column that both have."""

    file: str
    column: str
    prepare: Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, slots=True)
class Preset:
    """Known layout of a file.

    A file with a header, or of JSON, is recognized by its columns; one without a header by its first line.
    """

    name: str
    description: str
    kind: Kind
    selections: tuple[RowSelection, ...]
    recognized_by: tuple[str, ...] = ()  # columns that such a file has
    first_line: str = ""  # pattern of the first line of a file without a header
    columns: tuple[str, ...] = ()  # names of its columns
    note: str = ""  # advice, shown when the preset is used
    join: Join | None = None  # a second file that has the users

    def matches(self, columns: Collection[str], line: str) -> bool:
        if self.first_line:
            return re.search(self.first_line, line) is not None
        return bool(self.recognized_by) and set(self.recognized_by) <= set(columns)

    def missing(self, columns: Collection[str]) -> list[str]:
        """Columns by which it is recognized that a file does not have."""
        return [name for name in self.recognized_by if name not in columns]


def select(where: str = "", each: str = "", **fields: str) -> RowSelection:
    """Write a selection; `context__page` stands for `context.page`."""
    return RowSelection({name.replace("__", "."): source for name, source in fields.items()}, where, each)
