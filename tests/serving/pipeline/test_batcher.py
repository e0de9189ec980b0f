"""Batches of concurrent requests: isolation of errors, batch sizes, and a bounded queue."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.pipeline.batcher import BatchSettings, Overloaded, RequestBatcher
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.service import Service
from stream.ids import hash_id
from stream.testing import MemoryStore
from tests.support.serving_loop import LiveLoop


class Recorder:
    """Record the batches; the impression id is the user id, and the user "bad" fails."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def recommend(self, requests: Sequence[RecommendationRequest]) -> list[RecommendationResponse]:
        users = [request.user for request in requests]
        self.batches.append(users)
        if "bad" in users:
            raise RuntimeError("bad user")
        return [RecommendationResponse(user, "v", False, []) for user in users]


def submit_all(batcher: RequestBatcher, users: Sequence[str]) -> list[Any]:
    """Submit requests at the same time; returns impression ids and errors."""

    async def run() -> list[Any]:
        requests = (batcher.submit(RecommendationRequest(user_id=user)) for user in users)
        return await asyncio.gather(*requests, return_exceptions=True)

    return [getattr(result, "impression_id", result) for result in asyncio.run(run())]


def test_each_request_gets_its_own_response() -> None:
    users = [f"u{n}" for n in range(50)]

    assert submit_all(RequestBatcher(Recorder().recommend, 100), users) == users


def test_concurrent_requests_share_full_batches() -> None:
    recorder = Recorder()

    submit_all(RequestBatcher(recorder.recommend, 100, BatchSettings(max_requests=4)), [f"u{n}" for n in range(10)])

    assert [len(batch) for batch in recorder.batches] == [4, 4, 2]


def test_failing_request_is_isolated() -> None:
    recorder = Recorder()

    ann, error, ben = submit_all(RequestBatcher(recorder.recommend, 100), ["ann", "bad", "ben"])

    assert (ann, ben) == ("ann", "ben")
    assert isinstance(error, RuntimeError)
    assert recorder.batches == [["ann", "bad", "ben"], ["ann"], ["bad"], ["ben"]]


def test_requests_beyond_the_queue_are_shed() -> None:
    results = submit_all(RequestBatcher(Recorder().recommend, 2), ["ann", "ben", "cat"])

    assert results[:2] == ["ann", "ben"]
    assert isinstance(results[2], Overloaded)
    assert results[2].retry_after_s == 1


class TestExpectedWait:
    """Full batches of two requests."""

    def test_requests_that_would_wait_too_long_are_shed(self) -> None:
        batcher = RequestBatcher(Recorder().recommend, 100, BatchSettings(max_requests=2, max_wait_s=1e-9))

        before_a_batch = submit_all(batcher, "abcdef")
        after_a_batch = submit_all(batcher, "abcdef")

        assert before_a_batch == [*"abcdef"]  # the time per batch is unknown
        assert after_a_batch[:2] == ["a", "b"]
        assert [type(result) for result in after_a_batch[2:]] == [Overloaded] * 4

    def test_faster_batches_end_the_shedding(self) -> None:
        durations = iter([0.2])

        def recommend(requests: Sequence[RecommendationRequest]) -> list[RecommendationResponse]:
            time.sleep(next(durations, 0))
            return Recorder().recommend(requests)

        batcher = RequestBatcher(recommend, 100, BatchSettings(max_requests=2, max_wait_s=0.1, smoothing=1.0))
        submit_all(batcher, "ab")
        n_shed = [sum(isinstance(result, Overloaded) for result in submit_all(batcher, "abcdef")) for _ in range(2)]

        assert n_shed == [4, 0]


@pytest.mark.parametrize("n_requests", [1, 40])
def test_canceled_requests_are_skipped(n_requests: int) -> None:
    recorder = Recorder()

    async def run() -> None:
        batcher = RequestBatcher(recorder.recommend, 100)
        tasks = [asyncio.create_task(batcher.submit(RecommendationRequest(user_id="u"))) for _ in range(n_requests)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        assert (await batcher.submit(RecommendationRequest(user_id="last"))).impression_id == "last"

    asyncio.run(run())

    assert [user for batch in recorder.batches for user in batch] == ["last"]


def test_failing_user_does_not_affect_other_users(tmp_path: Path) -> None:
    class FailingStore(MemoryStore):
        """Fail for one user."""

        def get_many(self, keys: np.ndarray) -> list[bytes | None]:
            if hash_id("bad") in keys.tolist():
                raise RuntimeError("bad user")
            return super().get_many(keys)

    async def send_requests(service: Service) -> list[Any]:
        requests = [RecommendationRequest(user_id=user_id, log=False) for user_id in ("ann", "bad", "ben")]
        return await asyncio.gather(*map(service.recommend, requests), return_exceptions=True)

    with LiveLoop(tmp_path, store=FailingStore()) as loop:
        loop.put_items("a", "b")
        ann, failed, ben = loop.http.blocking_portal.call(send_requests, loop.service)

    assert isinstance(failed, RuntimeError)
    assert [len(response.items) for response in (ann, ben)] == [2, 2]
