import logging

import numpy as np
import pytest
from prometheus_client import REGISTRY

from online_models.fields.field_table import FieldSettings, FieldTable
from stream.records.fields import field_key


def make_keys(*names: str) -> np.ndarray:
    return np.array([field_key(name, "x") for name in names], np.uint64)


def test_fields_beyond_the_limit_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    table = FieldTable(FieldSettings(max=2))
    before = REGISTRY.get_sample_value("headrace_learn_field_values_left_out_total") or 0
    with caplog.at_level(logging.WARNING):
        admitted = table.admit(make_keys("a", "b", "c", "d"))
        table.admit(make_keys("e"))

    assert (admitted != 0).tolist() == [True, True, False, False]
    assert REGISTRY.get_sample_value("headrace_learn_field_values_left_out_total") == before + 3
    assert sum("raise fields.max" in record.message for record in caplog.records) == 1


def test_settings_include_and_exclude_fields_by_name() -> None:
    keys = make_keys("a", "b", "c")

    assert (FieldTable(FieldSettings(include=("a", "b"))).admit(keys) != 0).tolist() == [True, True, False]
    assert (FieldTable(FieldSettings(exclude=("a",))).admit(keys) != 0).tolist() == [False, True, True]


def test_selecting_admits_nothing_and_passes_fields_while_there_is_room() -> None:
    table = FieldTable(FieldSettings(max=2))

    assert (table.select(make_keys("a", "b")) != 0).all()
    assert len(table) == 0

    table.admit(make_keys("a", "b"))

    assert (table.select(make_keys("a", "c")) != 0).tolist() == [True, False]


def test_a_replica_of_a_field_table_selects_the_same_keys() -> None:
    learner, replica, restored = (FieldTable(FieldSettings(max=2)) for _ in range(3))
    learner.admit(make_keys("a", "b"))
    replica.apply(learner.changes())
    restored.restore(learner.state())

    for table in (replica, restored):
        assert np.array_equal(table.select(make_keys("b", "c")), learner.select(make_keys("b", "c")))
