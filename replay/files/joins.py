"""Join the rows of a file with a second file of its folder."""

from pathlib import Path

import polars as pl

from replay.files.presets.preset import Join
from replay.files.sources.tables import RowTable


def read_second(path: str, join: Join) -> pl.DataFrame:
    """Read the second file; OSError if the folder of the first one lacks it."""
    second = Path(path).parent / join.file
    if path == "-" or not second.exists():
        raise FileNotFoundError(
            f"{second} does not exist: {path} has no users and times of its own; put {join.file} beside it"
        )
    return join.prepare(pl.scan_csv(second, infer_schema=False)).collect()


def join_tables(table: RowTable, second: pl.DataFrame, join: Join) -> RowTable:
    """Add the columns of the second file; they are empty where it has no row."""
    frame = table.frame.join(second, on=join.column, how="left", maintain_order="left")
    return RowTable(frame, table.places, table.texts, table.refused)
