"""Producers beyond their contribution cap are reported by name; nothing needs undoing."""

import msgspec
import numpy as np

from online_models.guard.detectors.producer import ProducerDetector
from online_models.guard.findings import AlarmOnly
from online_models.state.contribution_caps import CapExceeded
from online_models.step_result import StepResult
from stream.ids import hash_id
from stream.records.batches import Kind
from stream.testing import ManualClock, MemoryLog
from stream.topics import EVENTS
from tests.support.batches import make_batch, make_lists, make_queries
from tests.support.events import START
from tests.support.observations import trained_step


def test_cap_violations_are_reported_with_producer_and_item() -> None:
    log = MemoryLog(clock=ManualClock(START))
    log.create(EVENTS, 1)
    event = {"type": "click", "ts": START, "user_id": "u1", "item_id": "i1", "producer": "partner"}
    log.append(EVENTS, 0, [(None, msgspec.json.encode(event | {"event_id": f"e{n}"})) for n in range(3)])
    batch = make_batch(
        [Kind.action] * 3, make_queries(3, [[]] * 3, np.full(3, START)), make_lists([[1]] * 3), np.zeros(3, np.uint64)
    )
    violation = CapExceeded(hash_id("partner"), hash_id("i1"), row=2)
    [finding] = ProducerDetector(log).update(trained_step(StepResult(batch, cap_violations=(violation,))))

    assert (finding.depth, finding.kind, finding.detector) == ("actor", "poison", "producer")
    assert (finding.evidence["producer"], finding.evidence["item_id"]) == ("partner", "i1")
    assert finding.first_offsets == {0: 2}
    assert isinstance(finding.remedy, AlarmOnly)
