"""Read a file of any format as batches of events, items and users."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from replay.files.columns import list_columns, name_errors
from replay.files.joins import join_tables, read_second
from replay.files.kinds import ParsedLines, parse_lines
from replay.files.options import ReadOptions
from replay.files.plans import Plan, make_plan
from replay.files.row_ids import RowIdGenerator
from replay.files.selections import Lines, RowIds, merge_others, select_records, source_columns
from replay.files.sources.batching import batches_until_error
from replay.files.sources.formats import detect_format
from replay.files.sources.input_file import InputFile
from replay.files.sources.json_rows import make_table
from replay.files.sources.json_values import read_values
from replay.files.sources.parquet import read_parquet
from replay.files.sources.tables import BATCH_ROWS, RowTable, read_delimited

_BATCH_LINES = 5_000


@dataclass(slots=True)
class Batch:
    """Records of some rows of a file."""

    parsed: ParsedLines
    skipped: Counter[str] = field(default_factory=Counter)


class RecordReader:
    """Reader of one file.

    ValueError: the file fits nothing. OSError: it is missing; `DamagedFile` comes after the batches that are good.
    """

    def __init__(self, path: str, options: ReadOptions) -> None:
        self.file = InputFile(path)
        self._options = options
        try:
            self.format = detect_format(self.file.head)
            self._tables = read_parquet(self.file) if self.format.name == "parquet" else iter(())
            self._first_tables = list(islice(self._tables, 1))
            self.plan = self._make_plan()
        except BaseException:
            self.file.close()
            raise
        self._ids = RowIdGenerator(self.plan.salt)

    def _make_plan(self) -> Plan:
        if not self.file.head.strip() or (self.format.name == "parquet" and not self._first_tables):
            return Plan()
        columns = self._first_tables[0].frame.columns if self._first_tables else []
        return make_plan(self.file.name, self.format, self.file.head, columns, self._options)

    @property
    def unit(self) -> str:
        """Word for the place of a record: line, row or record."""
        return self.format.unit

    def batches(self) -> Iterator[Batch]:
        """Yield the records in file order; closes the file."""
        with self.file:
            if self.format.name in ("json_lines", "json_values"):
                yield from self._read_json()
            elif self.plan.selections:
                yield from self._read_tables()

    def _read_json(self) -> Iterator[Batch]:
        records = _read_lines(self.file) if self.format.name == "json_lines" else self._read_values()
        size = BATCH_ROWS if self.plan.selections else _BATCH_LINES
        for batch in batches_until_error(records, size):
            places, lines = [place for place, _ in batch], [line for _, line in batch]
            yield self._map_json(lines, places) if self.plan.selections else Batch(self._parse(lines, places))

    def _read_values(self) -> Iterator[tuple[int, bytes]]:
        text = io.TextIOWrapper(self.file.stream, encoding="utf-8", errors="surrogateescape", newline="")
        return enumerate(read_values(text, self.format.start, self.file.name), 1)

    def _map_json(self, lines: Sequence[bytes], places: Sequence[int]) -> Batch:
        batch = Batch(ParsedLines())
        texts = [line.decode(errors="replace") for line in lines]
        ids = self._ids.make_ids(texts) if self.plan.preset else None
        for number, selection in enumerate(self.plan.selections):
            fields = selection.field_maps([])
            columns, lists = source_columns([selection]), list_columns(fields)
            json_table = make_table(lines, places, texts, columns, lists, selection.each)
            row_ids = RowIds([ids[i] for i in json_table.lines], json_table.elements) if ids else None
            records = select_records(json_table.table, row_ids, selection, number, keep_others=False)
            if self.plan.keep_others:
                records = merge_others(records, [lines[i] for i in json_table.lines], selection)
            self._add(batch, records)
        batch.parsed.refused += json_table.table.refused
        return batch

    def _read_tables(self) -> Iterator[Batch]:
        tables = read_delimited(self.file, self.format.separator, self.plan.columns)
        if self.format.name == "parquet":
            tables = chain(self._first_tables, self._tables)
        join = self.plan.preset.join if self.plan.preset else None
        second = read_second(self.file.path, join) if join else None
        for table in tables:
            with name_errors(self.file.name):
                batch = self._map_table(table if join is None or second is None else join_tables(table, second, join))
            yield batch

    def _map_table(self, table: RowTable) -> Batch:
        batch = Batch(ParsedLines(refused=list(table.refused)))
        ids = RowIds(self._ids.make_ids(table.texts)) if self.plan.kind == "events" else None
        for number, selection in enumerate(self.plan.selections):
            self._add(batch, select_records(table, ids, selection, number, self.plan.keep_others))
        return batch

    def _add(self, batch: Batch, records: Lines) -> None:
        parsed = self._parse(records.lines, records.places)
        batch.parsed.extend(parsed)
        batch.parsed.refused += records.refused
        batch.skipped.update(records.skipped)

    def _parse(self, lines: Sequence[bytes], places: Sequence[int]) -> ParsedLines:
        return parse_lines(lines, places, self.plan.kind or self._options.kind, self._options.type, self._ids.make_ids)


def _read_lines(file: InputFile) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; blank ones and a comma at the end are left out."""
    for number, line in enumerate(file.stream, 1):
        if stripped := line.strip(b" \t\r\n,"):
            yield number, stripped
