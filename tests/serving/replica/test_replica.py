"""A replica equals the learner bit for bit, across rollbacks, late starts and gaps."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from online_models.control import CheckpointCommand, Command, RollbackCommand
from online_models.model import RecommenderModel
from online_models.training.updates import decode_update, encode_update
from online_models.versions import checkpoints, gate
from serving.replica.replica import Replica
from stream.config import ItemsSettings
from stream.ids import hash_id
from stream.logs import Position, Record
from stream.testing import MemoryLog
from stream.topics import EVENTS, ITEMS, MODEL_UPDATES
from tests.support.faults import CrashInjector
from tests.support.learner_lab import Bits, Lab, find_differences, make_blocks, read_bits

Blocks = dict[int, list[Record]]
COMMANDS: dict[tuple[int, int], Command] = {
    (1, 2): CheckpointCommand(),
    (1, 5): CheckpointCommand(),
    (1, 7): RollbackCommand("000001-000000002", {"0": [(20, 60)]}),
    (2, 6): CheckpointCommand(),
}


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    return make_blocks()


@pytest.fixture
def lab(tmp_path: Path, blocks: Blocks) -> Lab:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, COMMANDS)
    lab.log.create(EVENTS, 2)
    return lab


def get_serving_state(model: RecommenderModel) -> Bits:
    """The arrays that updates carry; those of the optimizer stay in the learner."""
    names = RecommenderModel().changes().keys()
    return {name: bits for name, bits in read_bits(model.state()).items() if name in names}


def start_replica(lab: Lab) -> Replica:
    """A replica that starts now and applies all updates."""
    replica = Replica(lab.log, lab.settings)
    while replica.poll():
        pass
    return replica


def assert_same(replica: Replica, lab: Lab) -> None:
    progress = lab.start().progress

    assert (replica.epoch, replica.step) == (progress.epoch, progress.step)
    assert find_differences(get_serving_state(replica.model), get_serving_state(lab.start().model)) == []
    assert replica.covered_offsets == {str(p): offset for p, offset in progress.offsets.items()}


def test_replica_equals_the_learner_after_each_step(lab: Lab) -> None:
    replica = start_replica(lab)
    while lab.step():
        replica.poll()
        assert_same(replica, lab)

    assert replica.epoch == 2


def test_replica_that_starts_late_equals_the_learner(lab: Lab) -> None:
    while lab.step():
        assert_same(start_replica(lab), lab)


def test_replica_follows_a_learner_that_crashes(tmp_path: Path, blocks: Blocks) -> None:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, COMMANDS, CrashInjector(*[7] * 9))
    replica = start_replica(lab)
    lab.finish()
    while replica.poll():
        pass

    assert lab.crashes > 3
    assert_same(replica, lab)
    assert_same(start_replica(lab), lab)


def test_damaged_checkpoint_is_skipped(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.finish()
    (lab.settings.checkpoints / "000002-000000006" / "items.counters.safetensors").write_bytes(b"")

    assert_same(start_replica(lab), lab)
    assert "000002-000000006 is damaged" in caplog.text


def test_checkpoint_bridges_missing_updates(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    replica = start_replica(lab)
    while lab.start().progress.epoch < 2:
        lab.step()
    lab.log.trim(MODEL_UPDATES, 0, lab.log.end_offset(MODEL_UPDATES, 0))
    lab.step()
    replica.poll()

    assert replica.version == "000000-000000000"
    assert "updates are missing" in caplog.text

    lab.finish()
    while replica.poll():
        pass

    assert_same(replica, lab)


def test_updates_apply_only_to_their_base_state(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    replica = start_replica(lab)
    while lab.start().progress.epoch < 2:
        lab.step()
        if lab.start().progress.epoch < 2:
            replica.poll()
    before = get_serving_state(replica.model)
    lab.start().wait_for_checkpoint()
    for version in lab.settings.checkpoints.glob("0*"):
        shutil.rmtree(version)
    for _ in range(3):
        lab.step()
        replica.poll()

    assert replica.epoch == 1
    assert find_differences(get_serving_state(replica.model), before) == []
    levels = {log_record.levelno for log_record in caplog.records if "cannot follow" in log_record.message}
    assert levels == {logging.ERROR}


def test_lost_updates_are_applied_when_sent_again(lab: Lab) -> None:
    while lab.start().progress.step < 5:
        lab.step()
    lab.step()
    lab.start().wait_for_checkpoint()
    partition = lab.log._partition(MODEL_UPDATES, 0)
    del partition.rows[-3:]
    partition.end -= 3
    lab.die()
    lab.start()
    replica = start_replica(lab)
    lab.finish()
    while replica.poll():
        pass

    assert_same(replica, lab)


def test_lag_counts_events_that_answers_do_not_reflect(lab: Lab) -> None:
    lab.finish()
    lab.log.write(EVENTS, 0, *[(None, b"")] * 1000)
    replica, covered = start_replica(lab), lab.start().progress.offsets[0]
    before_stream = replica.lag(EVENTS, {})
    source = lab.log.open_source(EVENTS, "stream")
    source.next_batch(1, 0)
    source.commit({0: Position(covered - 5)})
    users_are_behind = replica.lag(EVENTS, {})
    source.commit({0: Position(1000)})

    assert before_stream == {"0": 1000, "1": 0}
    assert users_are_behind == {"0": 1005 - covered, "1": 0}
    assert replica.lag(EVENTS, {}) == {"0": 1000 - covered, "1": 0}
    assert replica.lag(EVENTS, {0: 990}) == {"0": 990, "1": 0}


def list_eligible(replica: Replica) -> set[str]:
    return set(replica.get_item_ids(np.flatnonzero(replica.eligible[: len(replica.model.items)])))


def test_catalog_only_offers_available_items(lab: Lab) -> None:
    lab.finish()
    settings = lab.settings.model_copy(update={"items": ItemsSettings(catalog_only=True)})
    replica = Replica(lab.log, settings)

    assert list_eligible(replica) == {f"i{n}" for n in range(12)}

    lab.log.write("items", 0, (b"i1", None), (b"i2", b'{"item_id":"i2","available":false}'))
    replica.poll()

    assert list_eligible(replica) == {f"i{n}" for n in range(12) if n not in (1, 2)}


def test_named_items_are_offered_unless_deleted(lab: Lab) -> None:
    lab.finish()
    replica = start_replica(lab)
    named = list_eligible(replica)
    lab.log.write("items", 0, (b"i1", None), (b"i30", None))
    replica.poll()

    assert {f"i{n}" for n in range(12)} < named
    assert list_eligible(replica) == named - {"i1", "i30"}


def test_deletion_is_kept_when_the_topic_forgets_it(lab: Lab) -> None:
    lab.log.write("items", 0, (b"i30", None))
    lab.finish()
    lab.log.trim("items", 0, lab.log.end_offset("items", 0))

    assert "i30" not in list_eligible(start_replica(lab))


def test_new_item_is_offered_before_the_learner_has_it(lab: Lab) -> None:
    replica = start_replica(lab)
    lab.log.write("items", 0, *[(b"n%d" % n, b'{"item_id":"n%d"}' % n) for n in range(3)])
    replica.poll()
    before_training = list_eligible(replica)
    for _ in range(4):
        lab.step()
        replica.poll()
        lab.log.write("items", 0, (b"late", b'{"item_id":"late"}'))
        replica.poll()

        assert {"n0", "n1", "n2", "late"} <= list_eligible(replica)

    lab.finish()
    while replica.poll():
        pass

    assert {"n0", "n1", "n2"} <= before_training
    assert_same(replica, lab)
    assert list_eligible(replica) == list_eligible(start_replica(lab))


def test_new_price_is_kept_while_older_updates_arrive(lab: Lab) -> None:
    replica = start_replica(lab)
    while lab.step():
        lab.log.write("items", 0, (b"i3", b'{"item_id":"i3","price":1.5}'))
        replica.poll()
        [row] = replica.model.items.lookup(np.array([hash_id("i3")], np.uint64))

        assert replica.model.items.catalog["price"][row] == 1.5
        if lab.start().progress.step > 5:
            return


def block_version(lab: Lab, version: str, reason: str = "trained by a flood") -> None:
    lab.start().wait_for_checkpoint()
    gate.override(lab.settings.checkpoints, version, reason)


def test_replica_stays_below_a_blocked_version(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    while lab.start().progress.step < 7:
        lab.step()
    block_version(lab, "000001-000000005")
    replica = start_replica(lab)

    assert replica.version == "000001-000000004"
    assert replica.base_version == "000001-000000002"
    assert replica.blocked_reason == "000001-000000005 is blocked: trained by a flood"
    assert REGISTRY.get_sample_value("headrace_serve_update_blocked") == 1
    assert "serving stays at 000001-000000004; updates to 000001-000000005 are blocked" in caplog.text

    lab.finish()
    while replica.poll():
        pass

    # The learner rolled back to a version that may serve, and the replica follows.
    assert (replica.epoch, replica.blocked_reason) == (2, "")
    assert REGISTRY.get_sample_value("headrace_serve_update_blocked") == 0
    assert_same(replica, lab)


def test_replica_skips_blocked_updates_to_a_servable_version(
    tmp_path: Path, blocks: Blocks, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, {(1, 2): CheckpointCommand(), (1, 7): CheckpointCommand()})
    replica_log = MemoryLog({ITEMS: [], MODEL_UPDATES: [], EVENTS: []})
    replica, versions = Replica(replica_log, lab.settings), []
    while lab.step():
        lab.start().wait_for_checkpoint()
        offset = replica_log.end_offset(MODEL_UPDATES, 0)
        for value in lab.log.read(MODEL_UPDATES, 0, offset, 10).values:
            update = decode_update(value or b"")
            blocked_reason = "alarm x is open" if 4 <= update.step <= 5 else ""
            copy = encode_update(replace(update, blocked_reason=blocked_reason))
            replica_log.append(MODEL_UPDATES, 0, [(None, copy)])
        while replica.poll():
            pass
        versions.append((replica.version, replica.blocked_reason))

    assert versions[2:5] == [("000001-000000003", reason) for reason in ("", "alarm x is open", "alarm x is open")]
    assert replica.base_version == "000001-000000007"
    assert (replica.step, replica.blocked_reason) == (lab.start().progress.step, "")
    assert find_differences(get_serving_state(replica.model), get_serving_state(lab.start().model)) == []
    assert "updates to 000001-000000004 are blocked: alarm x is open" in caplog.text


def test_blocked_versions_load_only_after_approval(lab: Lab) -> None:
    lab.finish()
    for version in checkpoints.list_version_names(lab.settings.checkpoints):
        block_version(lab, version)
    lab.log.trim(MODEL_UPDATES, 0, lab.log.end_offset(MODEL_UPDATES, 0))

    assert start_replica(lab).epoch == 0

    block_version(lab, "000001-000000005", "")

    assert start_replica(lab).base_version == "000001-000000005"
