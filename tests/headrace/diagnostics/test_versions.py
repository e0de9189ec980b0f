"""Checkpoints are red when one is damaged, or when steps wait too long for the next."""

from pathlib import Path

import msgspec

from headrace.diagnostics.results import CheckResult
from headrace.diagnostics.versions import check_checkpoints
from online_models.versions import checkpoints
from stream.topics import EVENTS
from tests.support.serving_loop import LiveLoop, make_event


def train(loop: LiveLoop) -> None:
    loop.log.append(EVENTS, 0, [(b"u1", msgspec.json.encode(make_event()))])
    loop.run_until_idle()


def save(loop: LiveLoop) -> Path:
    """Write a checkpoint and return its folder."""
    loop.learn_worker.save()
    loop.learn_worker.wait_for_checkpoint()
    return loop.settings.checkpoints / loop.learn_worker.version


def check(loop: LiveLoop) -> CheckResult:
    return check_checkpoints(loop.settings, loop.log, loop.clock.now_ms())


def test_no_steps_need_no_checkpoint(loop: LiveLoop) -> None:
    loop.clock.advance(86_400)

    assert check(loop).ok


def test_first_steps_without_a_checkpoint_become_red(loop: LiveLoop) -> None:
    train(loop)
    fresh = check(loop)
    loop.clock.advance(600)

    assert fresh.ok
    assert not check(loop).ok


def test_idle_learner_needs_no_new_checkpoint(loop: LiveLoop) -> None:
    train(loop)
    save(loop)
    loop.clock.advance(86_400)
    result = check(loop)

    assert result.ok
    assert "24.0 h old" in result.detail or "1.0 d old" in result.detail


def test_steps_after_the_newest_checkpoint_become_red(loop: LiveLoop) -> None:
    train(loop)
    save(loop)
    train(loop)
    loop.clock.advance(600)
    result = check(loop)

    assert not result.ok
    assert "10.0 min are in no checkpoint" in result.detail


def test_damaged_version_is_red_and_named(loop: LiveLoop) -> None:
    train(loop)
    path = save(loop)
    part = next(path.glob("*.safetensors"))
    part.write_bytes(part.read_bytes()[:-1])
    result = check(loop)

    assert not result.ok
    assert path.name in result.detail
    assert checkpoints.list_version_names(loop.settings.checkpoints) == [path.name]
