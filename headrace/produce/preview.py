"""Show the first records of a file as they would arrive, and the presets."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from replay.files.presets import PRESETS
from replay.files.reading import Batch

_N_ROWS = 10
_MAX_CHARS = 40


def keep_first(batches: Iterable[Batch], rows: list[bytes]) -> Iterator[Batch]:
    """Pass batches on and keep their first ten records in `rows`."""
    for batch in batches:
        parsed = batch.parsed
        others = [_show_deletion(record_id, line) for record_id, line in (*parsed.items, *parsed.users)]
        rows += [*parsed.event_lines, *others][: max(0, _N_ROWS - len(rows))]
        yield batch


def _show_deletion(record_id: str, line: bytes | None) -> bytes:
    return line if line is not None else msgspec.json.encode({"id": record_id, "deleted": True})


def print_rows(console: Console, rows: Sequence[bytes]) -> None:
    """Print records as a table with one column per field."""
    records = [msgspec.json.decode(row, type=dict[str, msgspec.Raw]) for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    table = Table(*names)
    for record in records:
        table.add_row(*(_shorten(bytes(record.get(name, b""))) for name in names))
    if names:
        console.print(table, markup=False)


def _shorten(value: bytes) -> str:
    text = value.decode()
    text = text[1:-1] if text.startswith('"') else text
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"


def print_presets() -> None:
    """Print the name, the layout and the mapping of every preset."""
    for preset in PRESETS.values():
        print(f"{preset.name}: {preset.description}")
        for selection in preset.selections:
            fields = " ".join(f"--map {name}={_quote(source)}" for name, source in selection.fields.items())
            conditions = f"  (rows with {selection.where})" if selection.where else ""
            print(f"    {fields}{conditions}")
        if preset.note:
            print(f"    {preset.note}")


def _quote(source: str) -> str:
    return f"'{source}'" if any(char in source for char in ' "&|$') else source
