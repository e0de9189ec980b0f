"""Answers and events over HTTP from the running system, asked in open loop by a generator on the same machine."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.load_generator import Answered, posted, sent
from benchmarks.harness.runs import Numbers, Size, quantiles, run_alone, temporary_folder
from tests.support.processes import Running

ITEMS, USERS = 10_000, 5_000
SHOWN = 20
RATE = 1_000  # answers a second of the budget
ALLOWED = 25.0  # ms, its p99
LADDER = (50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 750, 1_000, 1_250, 1_500, 2_000, 2_500, 3_000)
BODY = 100  # events of one request
_JSON = {"content-type": "application/json"}
SETTINGS = {
    "HEADRACE_EVENTS__MAX_AGE": "0",
    "HEADRACE_SERVE__SEED": "1",
    "HEADRACE_GUARD__REMEDY": "false",  # it looks on, but traffic that changes its nature at a stroke is no shop's
}


def measure(size: Size) -> Iterator[Numbers]:
    with temporary_folder() as folder, Running(folder, **SETTINGS) as running:
        furnish(running)
        accepted = events(running, size.of(50_000, 2_000), seed=1)
        running.settle(300)
        answers(running.port, RATE, size.of(2, 1), seed=1)  # warms the connections and the caches
        for run in range(2, size.runs + 2):
            held = answers(running.port, RATE, size.of(10, 2), seed=run)
            numbers = quantiles(f"http: {RATE:,} answers/s asked", held.milliseconds or [float("inf")])
            numbers["http: errors in them"] = held.errors
            running.settle(300)  # what is still being learnt of them would be in the way of the ladder
            numbers[f"http: answers/s at p99 ≤ {ALLOWED:.0f} ms"] = greatest(running.port, size.of(3, 1), run)
            numbers["http: events/s accepted, 100 a body"] = accepted
            running.settle(300)
            yield numbers
            accepted = events(running, size.of(50_000, 2_000), seed=run)
            running.settle(300)


def furnish(running: Running, items: int = ITEMS) -> None:
    """A catalogue, for there is nothing to answer without one."""
    for body in parts(traffic.catalogue(items), 1_000):
        running.http.post("/v1/items", content=body, headers=_JSON).raise_for_status()


def events(running: Running, number: int, seed: int, items: int = ITEMS) -> float:
    """Events a second that are acknowledged as durable, eight requests at a time and each at once after the other."""
    bodies = parts(traffic.organic(number, USERS, items, seed), BODY)
    requests = [posted(running.port, "/v1/events", body) for body in bodies]
    begin = time.perf_counter()
    answered = sent(running.port, requests, rate=1e6, connections=8)
    assert answered.errors == 0, f"{answered.errors} of {len(requests)} bodies of events were not taken"
    return number / (time.perf_counter() - begin)


def answers(port: int, rate: float, seconds: float, seed: int) -> Answered:
    rng = np.random.default_rng(seed)
    people = rng.integers(0, USERS, int(rate * seconds)).tolist()
    questions = [msgspec.json.encode({"user_id": f"user-{user}", "k": SHOWN}) for user in people]
    return sent(port, [posted(port, "/v1/recommendations", question) for question in questions], rate)


def greatest(port: int, seconds: float, seed: int) -> float:
    """The highest rung of the ladder that is answered in time and without errors; 0 if none is.

    A rung has some hundred questions, and a second try: of a few, the slowest hundredth is one hiccup.
    """
    held = 0.0
    for rate in LADDER:
        if not any(_holds(answers(port, rate, max(seconds, 600 / rate), seed + again)) for again in (0, 100)):
            break
        held = rate
    return held


def _holds(answered: Answered) -> bool:
    return not answered.errors and float(np.quantile(answered.milliseconds, 0.99)) <= ALLOWED


def parts(records: Iterable[tuple[bytes, bytes]], length: int) -> Iterator[bytes]:
    """JSON lists of so many values each."""
    rest = iter(records)
    while some := list(islice(rest, length)):
        yield b"[" + b",".join(value for _, value in some) + b"]"


if __name__ == "__main__":
    run_alone(__doc__, measure)
