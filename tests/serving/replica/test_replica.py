"""A replica holds the learner's bits, step by step, across rollbacks, late starts and gaps."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from online_models.control import CheckpointOrder, RollbackOrder
from online_models.model import Stack
from online_models.training.updates import decode_update, encode_update
from online_models.versions import checkpoints, gate
from serving.replica.replica import Replica
from stream.logs import Record
from stream.testing import MemoryLog
from stream.topics import EVENTS, EXAMPLES, ITEMS, MODEL_UPDATES
from tests.support.faults import Fuse
from tests.support.learner_lab import Bits, Lab, bits_of, differing, lessons

Blocks = dict[int, list[Record]]
ORDERS = {
    (1, 2): CheckpointOrder(),
    (1, 5): CheckpointOrder(),
    (1, 7): RollbackOrder("000001-000000002", {"0": [(20, 60)]}),
    (2, 6): CheckpointOrder(),
}


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    return lessons()


@pytest.fixture
def lab(tmp_path: Path, blocks: Blocks) -> Lab:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, ORDERS)
    lab.log.create(EVENTS, 2)
    return lab


def served(stack: Stack) -> Bits:
    """The bits that answers come from: what only learning needs, such as the optimizer's, stays with the learner."""
    told = Stack().changes().keys()
    return {name: bits for name, bits in bits_of(stack.state()).items() if name in told}


def caught_up(lab: Lab) -> Replica:
    """A replica that starts now."""
    replica = Replica(lab.log, lab.settings)
    while replica.poll():
        pass
    return replica


def assert_same(replica: Replica, lab: Lab) -> None:
    progress = lab.start().progress

    assert (replica.epoch, replica.step) == (progress.epoch, progress.step)
    assert differing(served(replica.stack), served(lab.start().stack)) == []
    assert replica.covered == {str(p): offset for p, offset in progress.offsets.items()}


def test_a_replica_has_the_learners_bits_after_each_step(lab: Lab) -> None:
    replica = caught_up(lab)
    while lab.step():
        replica.poll()
        assert_same(replica, lab)

    assert replica.epoch == 2


def test_a_replica_that_starts_late_has_the_learners_bits(lab: Lab) -> None:
    while lab.step():
        assert_same(caught_up(lab), lab)


def test_a_replica_follows_a_learner_that_dies(tmp_path: Path, blocks: Blocks) -> None:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, ORDERS, Fuse(*[7] * 9))
    replica = caught_up(lab)
    lab.finish()
    while replica.poll():
        pass

    assert lab.crashes > 3
    assert_same(replica, lab)
    assert_same(caught_up(lab), lab)


def test_a_damaged_checkpoint_is_passed_over(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.finish()
    (lab.settings.checkpoints / "000002-000000006" / "items.counters.safetensors").write_bytes(b"")

    assert_same(caught_up(lab), lab)
    assert "000002-000000006 is damaged" in caplog.text


def test_a_checkpoint_from_before_there_was_a_bandit_is_taken_up(lab: Lab, blocks: Blocks) -> None:
    lab.finish()
    before, folder = lab.start(), lab.settings.checkpoints
    bits = served(before.stack)
    before.close()
    manifest, state = checkpoints.load(folder, before.version)
    checkpoints.save(folder, manifest, {name: array for name, array in state.items() if not name.startswith("bandit.")})
    lab.die()

    assert differing(served(lab.start().stack), bits) == [
        f"bandit.{name}" for name in ("keys", "posterior", "shared", "stamp")
    ]
    assert_same(caught_up(lab), lab)

    lab.log.write(EXAMPLES, 0, *blocks[0][9:])
    lab.finish()

    assert lab.start().version > before.version
    assert_same(caught_up(lab), lab)


def test_updates_that_are_missing_are_leapt_over_by_a_checkpoint(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    replica = caught_up(lab)
    while lab.start().progress.epoch < 2:
        lab.step()
    lab.log.trim(MODEL_UPDATES, 0, lab.log.end(MODEL_UPDATES, 0))
    lab.step()
    replica.poll()

    assert replica.version == "000000-000000000"
    assert "updates are missing" in caplog.text

    lab.finish()
    while replica.poll():
        pass

    assert_same(replica, lab)


def test_updates_never_apply_to_a_state_they_were_not_made_for(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    replica = caught_up(lab)
    while lab.start().progress.epoch < 2:
        lab.step()
        if lab.start().progress.epoch < 2:
            replica.poll()
    before = served(replica.stack)
    lab.start()._keeper.wait()
    for version in lab.settings.checkpoints.glob("0*"):
        shutil.rmtree(version)
    for _ in range(3):
        lab.step()
        replica.poll()

    assert replica.epoch == 1
    assert differing(served(replica.stack), before) == []
    assert {one.levelno for one in caplog.records if "cannot follow" in one.message} == {logging.ERROR}


def test_updates_lost_with_the_power_are_followed_when_they_come_again(lab: Lab) -> None:
    while lab.start().progress.step < 5:
        lab.step()
    lab.step()
    lab.start()._keeper.wait()
    lost = lab.log._partition(MODEL_UPDATES, 0)
    del lost.rows[-3:]
    lost.end -= 3
    lab.die()
    lab.start()
    replica = caught_up(lab)
    lab.finish()
    while replica.poll():
        pass

    assert_same(replica, lab)


def test_lag_counts_the_events_that_answers_do_not_know(lab: Lab) -> None:
    lab.finish()
    lab.log.write(EVENTS, 0, *[(None, b"")] * 1000)
    replica = caught_up(lab)

    assert replica.lag(EVENTS) == {"0": 1000 - lab.start().progress.offsets[0], "1": 0}


def test_only_items_of_the_catalogue_that_are_available_may_be_shown(lab: Lab) -> None:
    lab.finish()
    replica = caught_up(lab)
    names = set(replica.names_of(np.flatnonzero(replica.eligible[: len(replica.stack.items)])))

    assert names == {f"i{n}" for n in range(12)}

    lab.log.write("items", 0, (b"i1", None), (b"i2", b'{"item_id":"i2","available":false}'))
    replica.poll()
    names = set(replica.names_of(np.flatnonzero(replica.eligible[: len(replica.stack.items)])))

    assert names == {f"i{n}" for n in range(12) if n not in (1, 2)}


def refused_at(lab: Lab, version: str, reason: str = "taught by a flood") -> None:
    lab.start()._keeper.wait()
    gate.mark(lab.settings.checkpoints, version, reason)


def test_a_replica_starts_below_a_refused_version_and_goes_no_further(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    while lab.start().progress.step < 7:
        lab.step()
    refused_at(lab, "000001-000000005")
    replica = caught_up(lab)

    assert replica.version == "000001-000000004"
    assert replica.base == "000001-000000002"
    assert replica.refused == "000001-000000005 is refused: taught by a flood"
    assert REGISTRY.get_sample_value("headrace_model_refused") == 1
    assert "answers stay with 000001-000000004 and do not follow to 000001-000000005" in caplog.text

    lab.finish()
    while replica.poll():
        pass

    # The learner went back to a version that passes: that is followed.
    assert (replica.epoch, replica.refused, REGISTRY.get_sample_value("headrace_model_refused")) == (2, "", 0)
    assert_same(replica, lab)


def test_a_replica_does_not_follow_refused_updates_and_leaps_over_them_to_a_version_that_passes(
    tmp_path: Path, blocks: Blocks, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, {(1, 2): CheckpointOrder(), (1, 7): CheckpointOrder()})
    passed = MemoryLog({ITEMS: [], MODEL_UPDATES: [], EVENTS: []})
    replica, versions = Replica(passed, lab.settings), []
    while lab.step():
        lab.start()._keeper.wait()
        at = passed.end(MODEL_UPDATES, 0)
        for value in lab.log.read(MODEL_UPDATES, 0, at, 10).values:
            update = decode_update(value or b"")
            refused = "alarm x is open" if 4 <= update.step <= 5 else ""
            passed.append(MODEL_UPDATES, 0, [(None, encode_update(replace(update, refused=refused)))])
        while replica.poll():
            pass
        versions.append((replica.version, replica.refused))

    assert versions[2:5] == [("000001-000000003", why) for why in ("", "alarm x is open", "alarm x is open")]
    assert replica.base == "000001-000000007"
    assert (replica.step, replica.refused) == (lab.start().progress.step, "")
    assert differing(served(replica.stack), served(lab.start().stack)) == []
    assert "do not follow to 000001-000000004: alarm x is open" in caplog.text


def test_nothing_is_loaded_while_all_is_refused_and_what_is_accepted_is(lab: Lab) -> None:
    lab.finish()
    for version in checkpoints.versions_in(lab.settings.checkpoints):
        refused_at(lab, version)
    lab.log.trim(MODEL_UPDATES, 0, lab.log.end(MODEL_UPDATES, 0))

    assert caught_up(lab).epoch == 0

    refused_at(lab, "000001-000000005", "")

    assert caught_up(lab).base == "000001-000000005"
