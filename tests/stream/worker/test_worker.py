"""Every event counts once in users, examples and dead letters, after any crash."""

import msgspec
import numpy as np
import pytest

from stream.config import StreamSettings
from stream.ids import hash_id
from stream.records.batches import Kind
from stream.topics import USERS
from stream.users.profiles import decode_profile
from tests.support.events import START
from tests.support.faults import CrashInjector
from tests.support.stream_harness import (
    StreamHarness,
    collect_outputs,
    make_impression,
    make_record,
    make_settings,
    run_phases,
)


@pytest.fixture(scope="module")
def baseline() -> StreamHarness:
    """Run without a crash."""
    return run_phases(make_settings(), CrashInjector(), phases=2, records=50)


def test_crash_at_any_moment_changes_nothing(baseline: StreamHarness) -> None:
    expected = collect_outputs(baseline)
    for moment in range(baseline.injector.ticks):
        harness = run_phases(make_settings(), CrashInjector(moment), phases=2, records=50)

        assert harness.crashes == 1
        assert collect_outputs(harness) == expected, f"crash at moment {moment}"


def test_crash_during_recovery_changes_nothing(baseline: StreamHarness) -> None:
    for moment in range(1, baseline.injector.ticks, 5):
        harness = run_phases(make_settings(), CrashInjector(moment, moment % 7, 3), phases=2, records=50)

        assert harness.crashes
        assert collect_outputs(harness) == collect_outputs(baseline), (
            f"crash at moment {moment}, then {moment % 7} moments later"
        )


@pytest.mark.parametrize("batch", [1, 7, 5000])
def test_micro_batch_boundaries_do_not_change_the_outputs(baseline: StreamHarness, batch: int) -> None:
    harness = run_phases(make_settings(batch=batch), CrashInjector(), phases=2, records=50)

    assert collect_outputs(harness) == collect_outputs(baseline)


def test_crash_changes_nothing_with_many_blocks_per_micro_batch() -> None:
    # More events than remembered ids: recovery of unstored events must not depend on the deduplicator.
    settings = make_settings(batch=5000, partitions=1)
    baseline = run_phases(settings, CrashInjector(), phases=1, records=1300)
    assert len(baseline.read_blocks(0)) > 2
    for moment in range(baseline.injector.ticks):
        harness = run_phases(settings, CrashInjector(moment), phases=1, records=1300)

        assert collect_outputs(harness) == collect_outputs(baseline), f"crash at moment {moment}"


def test_users_beyond_the_cache_have_the_same_records(baseline: StreamHarness) -> None:
    large_cache = make_settings().model_copy(
        update={"stream": StreamSettings(batch=16, attribution_window=60, allowed_lateness=4, cached_users=4096)}
    )
    harness = run_phases(large_cache, CrashInjector(), phases=2, records=50)

    assert collect_outputs(harness) == collect_outputs(baseline)


def test_impression_open_at_a_restart_is_joined_afterwards() -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [make_impression()]})
    harness.catch_up()
    harness.restart()
    harness.write_records({0: [make_record(item_id="b", ts=START + 9_000, impression_id="r1")]})
    harness.catch_up()
    harness.restart()
    harness.write_records({0: [make_record(event_id="later", item_id="z", ts=START + 900_000)]})
    harness.catch_up()
    rows = harness.read_rows(0)

    assert [Kind(kind).name for kind in rows.kind] == ["shown", "action", "clicked", "action", "closed"]
    assert rows.lists.take(np.array([2, 4])).label.tolist() == [0, 1, 0, 1]
    assert not rows.organic[1]


def test_duplicate_event_after_a_restart_is_skipped() -> None:
    harness = StreamHarness(make_settings(partitions=1))
    for _ in range(3):
        harness.write_records({0: [make_record(item_id="a"), make_record(item_id="a")]})
        harness.catch_up()
        harness.restart()

    assert len(harness.read_rows(0)) == 1
    assert decode_profile(harness.read_users()[hash_id("u1")]).counts.sum() == 1


def test_forgotten_user_stays_forgotten_after_a_crash() -> None:
    for moment in range(100):
        harness = StreamHarness(make_settings(partitions=1), CrashInjector(moment))
        harness.write_records({0: [make_record(item_id="a")]})
        harness.catch_up()
        harness.write_records({0: [(b"u1", None)]}, USERS)
        harness.catch_up()
        if not harness.crashes:
            return

        assert decode_profile(harness.read_users()[hash_id("u1")]).is_empty


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"u\n1"])
def test_user_record_without_a_valid_id_is_skipped(key: bytes | None) -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [(key, b"{}"), (b"u2", b"no json"), (b"u3", b"[]"), (b"u4", b'{"a":1}')]}, USERS)
    harness.catch_up()

    assert list(harness.read_users()) == [hash_id("u4")]


def test_micro_batch_of_rejected_records_moves_on() -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [(None, b"?"), (None, None), (None, b"[1]")]})
    harness.catch_up()
    harness.restart()
    harness.catch_up()
    dead_letters = [msgspec.json.decode(letter) for letter in harness.read_dead_letters()]

    assert sorted((letter["offset"], letter["reason"]) for letter in dead_letters) == [
        (0, "not_json"),
        (1, "not_json"),
        (2, "not_object"),
    ]
    assert harness.read_blocks(0)[-1][0].next_offset == 3
