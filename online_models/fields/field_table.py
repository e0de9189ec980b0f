"""Fields that the model learns from: discovered by name, first come, up to a limit."""

import logging
from dataclasses import dataclass

import numpy as np

from online_models import metrics
from online_models.state.tables import State, Table
from stream.config import FieldsSettings
from stream.records.fields import VALUE_BITS, field_id

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """Fields to learn from, by name."""

    max: int = 256  # distinct fields
    include: tuple[str, ...] = ()  # only these; empty = all
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max < 1:
            raise ValueError(f"fields.max must be at least 1, got {self.max}")


def read_field_settings(section: FieldsSettings) -> FieldSettings:
    """Settings of the section `[fields]`."""
    return FieldSettings(section.max, _split_names(section.include), _split_names(section.exclude))


def _split_names(names: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, names.split(","))))


class FieldTable:
    """Admit fields in order of arrival, and select the keys of admitted ones.

    >>> from stream.records.fields import field_key
    >>> table = FieldTable(FieldSettings(max=1))
    >>> keys = np.array([[field_key("tags", "jazz"), field_key("plan", "pro")]], np.uint64)
    >>> (table.admit(keys) != 0).tolist(), len(table)
    ([[True, False]], 1)
    """

    def __init__(self, settings: FieldSettings | None = None) -> None:
        self.settings = setting = settings or FieldSettings()
        self._table = Table({}, capacity=64)
        self._included = np.array([field_id(name) for name in setting.include], np.uint64)
        self._excluded = np.array([field_id(name) for name in setting.exclude], np.uint64)
        self._is_reported = False

    def __len__(self) -> int:
        return len(self._table)

    def admit(self, keys: np.ndarray) -> np.ndarray:
        """Admit the fields of keys, uint64 of any shape; return the keys, 0 where there is no room."""
        if not keys.any():
            return keys
        fields = self._usable_fields(keys)
        known, first = np.unique(fields[fields != 0], return_index=True)
        new = known[np.argsort(first)]
        new = new[self._table.lookup(new) < 0]
        room = self.settings.max - len(self)
        if new.size:
            self._table.add_keys(new[:room])
            metrics.fields.set(len(self))
        return self._select(keys, fields, new.size > room)

    def select(self, keys: np.ndarray) -> np.ndarray:
        """Keys of admitted fields, 0 for others; fields that still have room count as admitted."""
        fields = self._usable_fields(keys)
        if len(self) < self.settings.max:
            return np.where(fields != 0, keys, np.uint64(0))
        return self._select(keys, fields, False)

    def _usable_fields(self, keys: np.ndarray) -> np.ndarray:
        """Field of each key, 0 for excluded ones."""
        fields = keys >> np.uint64(VALUE_BITS)
        if self._included.size:
            fields = np.where(np.isin(fields, self._included), fields, np.uint64(0))
        return np.where(np.isin(fields, self._excluded), np.uint64(0), fields) if self._excluded.size else fields

    def _select(self, keys: np.ndarray, fields: np.ndarray, is_counted: bool) -> np.ndarray:
        is_admitted = (self._table.lookup(fields.reshape(-1)) >= 0).reshape(keys.shape)
        if is_counted:
            self._report(int(((fields != 0) & ~is_admitted).sum()))
        return np.where(is_admitted, keys, np.uint64(0))

    def _report(self, count: int) -> None:
        metrics.field_values_left_out.inc(count)
        if not self._is_reported:
            self._is_reported = True
            _logger.warning(
                "fields of items and users are left out: %d fields are known already; raise fields.max, or name the"
                " useless ones in fields.exclude",
                len(self),
            )

    def state(self) -> State:
        return self._table.state()

    def restore(self, state: State) -> None:
        """Copy the state; a checkpoint of an older release has none."""
        self._table.clear(64)
        if "keys" in state:
            self._table.restore(state)

    def changes(self) -> State:
        return self._table.changes()

    def apply(self, changes: State) -> None:
        if "rows" in changes:
            self._table.apply(changes)
