"""Events that nobody reads, that retention took, or that stay behind are reported."""

from functools import partial

import msgspec
import pytest

from headrace.diagnostics.progress import Observation, Snapshot, check_flow, observe, take_snapshot
from headrace.diagnostics.results import CheckResult
from stream.logs import Position
from stream.topics import EVENTS
from tests.support.serving_loop import LiveLoop, make_event

RUNNING = {"stream": True, "learn": True, "serve": True}


def append_clicks(loop: LiveLoop, count: int) -> None:
    loop.log.append(EVENTS, 0, [(b"u1", msgspec.json.encode(make_event())) for _ in range(count)])


def take(loop: LiveLoop) -> Snapshot:
    return take_snapshot(loop.log, loop.settings, loop.clock)


def check(loop: LiveLoop, running: dict[str, bool] | None = None, is_paused: bool = False) -> CheckResult:
    observation = observe(partial(take, loop), limit_s=0.01)
    return check_flow(observation, running or RUNNING, is_paused)


def test_read_and_trained_events_are_fine(loop: LiveLoop) -> None:
    append_clicks(loop, 5)
    loop.run_until_idle()

    assert check(loop).ok


def test_events_without_a_stream_process_are_red(loop: LiveLoop) -> None:
    append_clicks(loop, 5)
    loop.clock.advance(7)
    result = check(loop, RUNNING | {"stream": False})

    assert not result.ok
    assert "5 events wait for stream, the oldest for 7.0 s" in result.detail
    assert result.fix == "start headrace stream"


def test_events_that_a_running_process_leaves_are_red(loop: LiveLoop) -> None:
    append_clicks(loop, 5)
    result = check(loop)

    assert not result.ok
    assert "made no progress" in result.detail
    assert "read the log of stream" in result.fix


def test_examples_that_learn_leaves_are_red_unless_paused(loop: LiveLoop) -> None:
    append_clicks(loop, 5)
    for _ in range(3):
        loop.stream_worker.step(0.0)
    result = check(loop)

    assert not result.ok
    assert "5 events wait for learn" in result.detail
    assert check(loop, is_paused=True).ok


def test_backlog_that_moves_is_fine(loop: LiveLoop) -> None:
    append_clicks(loop, 5)
    first = take(loop)
    loop.run_until_idle()
    append_clicks(loop, 3)

    assert check_flow(Observation(first, take(loop), 1.0), RUNNING, is_paused=False).ok


def test_old_backlog_that_grows_is_red(loop: LiveLoop) -> None:
    append_clicks(loop, 5)
    first = take(loop)
    loop.run_until_idle()
    append_clicks(loop, 9)
    loop.clock.advance(90)
    result = check_flow(Observation(first, take(loop), 1.0), RUNNING, is_paused=False)

    assert not result.ok
    assert "does not shrink" in result.detail


def test_events_that_retention_took_unread_are_red(loop: LiveLoop) -> None:
    append_clicks(loop, 2)
    loop.run_until_idle()
    append_clicks(loop, 6)
    loop.log.trim(EVENTS, 0, 5)
    result = check(loop, RUNNING | {"stream": False})

    assert "3 events of partition 0 were deleted before stream read them" in result.detail
    assert "HEADRACE_LOG__RETENTION" in result.fix


def test_position_beyond_the_topic_is_red(loop: LiveLoop) -> None:
    loop.log.commit(EVENTS, "stream", {0: Position(70)})
    result = check(loop)

    assert not result.ok
    assert "stream has read partition 0 up to 70, but it ends at 0" in result.detail


@pytest.mark.parametrize("count", [0, 4])
def test_observation_ends_at_once_when_nothing_waits(loop: LiveLoop, count: int) -> None:
    append_clicks(loop, count)
    loop.run_until_idle()

    assert observe(partial(take, loop), limit_s=60).seconds < 30


def test_partition_that_retention_emptied_has_no_backlog(loop: LiveLoop) -> None:
    append_clicks(loop, 4)
    loop.log.trim(EVENTS, 0, 4)

    assert take(loop).unread == 0
    assert check(loop).ok
