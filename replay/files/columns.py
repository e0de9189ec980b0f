"""Build the columns of records from the columns of a file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from replay.files.mapping import FieldMap

_UNITS_PER_MS = {"s": 0.001, "ms": 1, "us": 1_000, "ns": 1_000_000}
_ISO_FORMATS = ("%+", "%Y-%m-%d %H:%M:%S%.f %z", "%Y-%m-%d %H:%M:%S%.f%#z")
_LOCAL_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f UTC", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M")
_TRUE, _FALSE = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")
_FROM_LISTS = ("list", "numbers", "number", "integer")
_EXPECTED = {
    "time": "a time in the unit or the format of the mapping, as in --map ts=COLUMN:s",
    "number": "a number",
    "integer": "an integer",
    "numbers": "a list of numbers",
}


@dataclass(frozen=True, slots=True)
class FieldColumn:
    """Column of a field, and the column that it is made of."""

    field: FieldMap
    value: pl.Expr
    source: pl.Expr | None  # text; None for a constant
    can_fail: bool

    @property
    def is_bad(self) -> pl.Expr:
        """Rows with a source that has no value after the conversion."""
        assert self.source is not None
        return self.value.is_null() & self.source.is_not_null()

    def describe(self, text: str) -> str:
        """Sentence about a value that cannot be converted."""
        return f"{self.field.target} is {text!r} in the file; expected {_EXPECTED[self.field.conversion]}"


def build_column(field: FieldMap, schema: pl.Schema) -> FieldColumn:
    """Build the column of a field; columns that are missing from the file are empty."""
    if field.constant is not None:
        return FieldColumn(field, _convert(field, pl.lit(field.constant), pl.String()).alias(field.target), None, False)
    present = [name for name in field.columns if name in schema]
    if not present:
        return FieldColumn(field, pl.lit(None, pl.String).alias(field.target), None, False)
    for name in present:
        _check_type(field, name, schema[name], len(present) > 1)
    source, dtype = _join(field, present, schema)
    value = _convert(field, source, dtype).alias(field.target)
    return FieldColumn(field, value, source, field.conversion in _EXPECTED)


def _check_type(field: FieldMap, name: str, dtype: pl.DataType, is_joined: bool) -> None:
    """Raise ValueError if values of this type cannot become the field."""
    if field.conversion == "time":
        fits = dtype == pl.String or dtype.is_numeric() or dtype in (pl.Date, pl.Datetime)
    elif isinstance(dtype, pl.List) and (is_joined or field.conversion in _FROM_LISTS):
        fits = not dtype.inner.is_nested()
    else:
        is_kept = field.conversion == "text" and not field.target.endswith("_id") and not is_joined
        fits = not dtype.is_nested() or is_kept
    if not fits:
        detail = f"column {name!r} has values of type {dtype.base_type()}, which cannot become {field.target}"
        raise ValueError(f"{detail}; map another column, as in --map {field.target}=COLUMN")


def _join(field: FieldMap, names: Sequence[str], schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
    """Join the columns of a field."""
    if len(names) == 1:
        column, dtype = _blank_as_null(names[0], schema[names[0]]), schema[names[0]]
        if isinstance(dtype, pl.List) and field.conversion in ("number", "integer"):
            return column.list.first(), dtype.inner  # type: ignore[return-value]
        return column, dtype
    if field.conversion == "list":
        lists = [_to_list(_blank_as_null(name, schema[name]), schema[name], field) for name in names]
        joined = pl.concat_list(lists) if field.join == "list" else _first_filled(lists)
        return joined.list.unique(maintain_order=True), pl.List(pl.String())
    texts = [_text(name, schema[name]) for name in names]
    return pl.concat_str(texts, separator="-") if field.join == "text" else pl.coalesce(texts), pl.String()


def _first_filled(lists: Sequence[pl.Expr]) -> pl.Expr:
    return pl.coalesce(pl.when(column.list.len() > 0).then(column) for column in lists)


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    column = _blank_as_null(name, dtype)
    if isinstance(dtype, pl.List):
        column = column.list.first()
    return column if dtype == pl.String else column.cast(pl.String)


def _blank_as_null(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the column; an empty text is no value."""
    column = pl.col(name)
    return pl.when(column.str.len_bytes() > 0).then(column) if dtype == pl.String else column


def _convert(field: FieldMap, source: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    match field.conversion:
        case "time":
            return _to_ms(source, dtype, field.format)
        case "number":
            return _to_number(source, dtype, field.format)
        case "integer":
            return _to_number(source, dtype, field.format).cast(pl.Int64, strict=False)
        case "list":
            return _to_list(source, dtype, field)
        case "numbers":
            return _to_list(source, dtype, field).cast(pl.List(pl.Float64), strict=False)
        case "flag":
            return _to_flag(source, dtype).fill_null(field.target == "available")
        case "type":
            return source.replace_strict(field.types, default=None, return_dtype=pl.String) if field.types else source
        case _:
            return _to_text(source, dtype, field)


def _to_ms(source: pl.Expr, dtype: pl.DataType, format: str) -> pl.Expr:
    """Convert a time to epoch milliseconds.

    Without a format, numbers are milliseconds and text is ISO 8601.
    """
    if dtype.is_temporal():
        return (source.cast(pl.Datetime("ms")) if dtype == pl.Date else source).dt.epoch("ms")
    if dtype.is_numeric():
        return (source.cast(pl.Float64) / _UNITS_PER_MS.get(format, 1)).round().cast(pl.Int64, strict=False)
    if format in _UNITS_PER_MS:
        return _scale(source, _UNITS_PER_MS[format])
    if format and format != "iso":
        return source.str.to_datetime(format, time_unit="ms", strict=False).dt.epoch("ms")
    zoned = [source.str.to_datetime(f, time_unit="ms", time_zone="UTC", strict=False) for f in _ISO_FORMATS]
    local = [source.str.to_datetime(f, time_unit="ms", strict=False) for f in _LOCAL_FORMATS]
    dates = source.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms"))
    times = [zone.dt.epoch("ms") for zone in zoned] + [time.dt.epoch("ms") for time in (*local, dates)]
    return pl.coalesce([*times] if format else [_scale(source, 1), *times])


def _scale(source: pl.Expr, units_per_ms: float) -> pl.Expr:
    """Convert text of a number; whole milliseconds stay exact."""
    exact = source.cast(pl.Int64, strict=False)
    scaled = (source.cast(pl.Float64, strict=False) / units_per_ms).round().cast(pl.Int64, strict=False)
    return pl.coalesce(exact, scaled) if units_per_ms == 1 else scaled


def _to_number(source: pl.Expr, dtype: pl.DataType, format: str) -> pl.Expr:
    """Convert to a number.

    The format `money` takes the first number of a text such as `$1,299.00`.
    """
    if format == "money" and dtype == pl.String:
        digits = source.str.extract(r"(\d[\d,]*(?:\.\d+)?)").str.replace_all(",", "")
        return digits.cast(pl.Float64, strict=False)
    scale = _UNITS_PER_MS["s"] if format == "ms" else 1  # a duration in milliseconds becomes seconds
    return source.cast(pl.Float64, strict=False) * scale


def _to_list(source: pl.Expr, dtype: pl.DataType, field: FieldMap) -> pl.Expr:
    """Convert to a list of texts; text without a separator is one element."""
    if isinstance(dtype, pl.List):
        elements = source.cast(pl.List(pl.String))
    elif field.separator and dtype == pl.String:
        elements = source.str.split(field.separator)
    else:
        elements = pl.concat_list(source.cast(pl.String))
    element = pl.element().str.strip_chars()
    if field.removed_pattern:
        element = element.str.replace(field.removed_pattern, "")
    return elements.list.eval(element.filter(element.str.len_bytes() > 0)).fill_null([])


def _to_flag(source: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Boolean:
        return source
    text = source.cast(pl.String).str.to_lowercase()
    return pl.when(text.is_in(_TRUE)).then(True).when(text.is_in(_FALSE)).then(False)


def _to_text(source: pl.Expr, dtype: pl.DataType, field: FieldMap) -> pl.Expr:
    """Convert ids and names to text; other fields keep the type that the file has."""
    if field.target.endswith("_id") and not dtype.is_nested() and dtype != pl.String:
        source, dtype = (_whole_as_text(source) if dtype.is_float() else source.cast(pl.String)), pl.String()
    if field.removed_pattern and dtype == pl.String:
        return source.str.replace(field.removed_pattern, "")
    return source.cast(pl.String) if dtype.is_temporal() else source


def _whole_as_text(source: pl.Expr) -> pl.Expr:
    """Numbers as text: integers that a writer turned into floats as integers, NaN as no value."""
    whole = source.cast(pl.Int64, strict=False)
    text = pl.when(whole.cast(pl.Float64) == source).then(whole.cast(pl.String)).otherwise(source.cast(pl.String))
    return pl.when(source.is_not_nan()).then(text)


@contextmanager
def name_errors(file_name: str) -> Iterator[None]:
    """Add the name of a file to an error of its columns; ValueError for one of Polars."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file_name}: {error}") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        detail, advice = str(error).partition("\n")[0], "convert it, or write the file without it"
        raise ValueError(f"{file_name}: a column cannot be read: {detail}; {advice}") from None


def list_columns(fields: Sequence[FieldMap]) -> set[str]:
    """Columns that are read as lists if they have several values."""
    return {name for field in fields if field.conversion in ("list", "numbers") for name in field.columns}
