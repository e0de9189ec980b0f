"""Speed of the embedded log and user store on this disk, with several processes."""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from stream.drivers import open_log, open_store

RUNS = 5
RECORDS = 200_000
BATCH = 1_000  # records per append
RECORD_BYTES = 300
USERS = 100_000
USER_BATCH = 500
USER_BYTES = 300
N_READS = 2_000
N_ECHOES = 200

Numbers = dict[str, float]


def measure_append(folder: str) -> Numbers:
    """Append from one process without readers."""
    log = open_log(f"local:{folder}")
    log.create("events", 1)
    records = [(b"user-%d" % i, os.urandom(RECORD_BYTES)) for i in range(BATCH)]
    begin = time.perf_counter()
    for _ in range(RECORDS // BATCH):
        log.append("events", 0, records)
    elapsed = time.perf_counter() - begin
    log.close()
    return {"local log: append, records/s": RECORDS / elapsed}


def _tail(folder: str, ready: Event, done: Event) -> None:
    log = open_log(f"local:{folder}")
    source = log.open_source("tail", None)
    ready.set()
    n_read = 0
    while n_read < RECORDS:
        n_read += sum(map(len, source.next_batch(4_096, timeout=30.0)))
    done.set()
    log.close()


def measure_tail(folder: str) -> Numbers:
    """Append, until another process has read the last record."""
    log = open_log(f"local:{folder}")
    log.create("tail", 4)
    records = [(b"user-%d" % i, os.urandom(RECORD_BYTES)) for i in range(BATCH)]
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    reader = spawn.Process(target=_tail, args=(folder, ready, done))
    reader.start()
    ready.wait()
    begin = time.perf_counter()
    for i in range(RECORDS // BATCH):
        log.append("tail", i % 4, records)
    done.wait()
    elapsed = time.perf_counter() - begin
    reader.join()
    log.close()
    return {"local log: append and read, records/s": RECORDS / elapsed}


def _echo(folder: str, ready: Event) -> None:
    log = open_log(f"local:{folder}")
    source = log.open_source("requests", None)
    ready.set()
    n_read = 0
    while n_read < N_ECHOES:
        for records in source.next_batch(100, timeout=30.0):
            now = time.monotonic()
            log.append("responses", 0, [(None, b"%r" % (now - float(value or b"0"))) for value in records.values])
            n_read += len(records)
    log.close()


def measure_latency(folder: str) -> Numbers:
    """Measure the time from an append until another process has read the record."""
    log = open_log(f"local:{folder}")
    log.create("requests", 4)
    log.create("responses", 1)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    reader = spawn.Process(target=_echo, args=(folder, ready))
    reader.start()
    ready.wait()
    for i in range(N_ECHOES):
        log.append("requests", i % 4, [(None, b"%r" % time.monotonic())])
        time.sleep(0.007)
    reader.join()
    latencies_ms = [1e3 * float(value or b"nan") for value in log.read("responses", 0, 0, N_ECHOES).values]
    log.close()
    return {
        "local log: append to read, p50 ms": _quantile(latencies_ms, 0.5),
        "local log: append to read, p99 ms": _quantile(latencies_ms, 0.99),
    }


def _write_users(folder: str, ready: Event, stop: Event) -> None:
    store = open_store(f"local:{folder}")
    rng = np.random.default_rng(1)
    while not stop.is_set():
        users = rng.integers(1, USERS, USER_BATCH, dtype=np.uint64)
        store.put_many(users, _values(USER_BATCH))
        ready.set()
        time.sleep(0.02)
    store.close()


def measure_store(folder: str) -> Numbers:
    """Write users; then read single users while another process writes 25,000 users a second."""
    store = open_store(f"local:{folder}")
    user_keys = np.random.default_rng(0).permutation(np.arange(1, USERS + 1, dtype=np.uint64))
    elapsed = 0.0
    for _ in range(3):  # new users first, then updates
        for start in range(0, USERS, USER_BATCH):
            values = _values(USER_BATCH)
            begin = time.perf_counter()
            store.put_many(user_keys[start : start + USER_BATCH], values)
            elapsed += time.perf_counter() - begin
    spawn = multiprocessing.get_context("spawn")
    ready, stop = spawn.Event(), spawn.Event()
    writer = spawn.Process(target=_write_users, args=(folder, ready, stop))
    writer.start()
    ready.wait()
    read_ms = []
    for key in user_keys[:N_READS].tolist():
        begin = time.perf_counter()
        store.get(key)
        read_ms.append(1e3 * (time.perf_counter() - begin))
        time.sleep(0.0005)
    stop.set()
    writer.join()
    store.close()
    return {
        "local store: put_many, users/s": 3 * USERS / elapsed,
        "local store: get, p50 ms": _quantile(read_ms, 0.5),
        "local store: get, p99 ms": _quantile(read_ms, 0.99),
    }


def _values(count: int) -> list[bytes]:
    random = os.urandom(count * USER_BYTES)
    return [random[start : start + USER_BYTES] for start in range(0, len(random), USER_BYTES)]


def _quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="folder to measure (default: the temporary folder)")
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--json", action="store_true", help="print the numbers of all runs as JSON")
    arguments = parser.parse_args()
    runs: dict[str, list[float]] = {}
    count = 1 if arguments.quick else RUNS
    for run in range(count):
        print(f"run {run + 1} of {count}", file=sys.stderr)
        for measure in (measure_append, measure_tail, measure_latency, measure_store):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                for name, number in measure(folder).items():
                    runs.setdefault(name, []).append(number)
    if arguments.json:
        print(json.dumps(runs))
    else:
        for name, numbers in runs.items():
            median = statistics.median(numbers)
            print(f"{name:<40}{median:>12,.2f}   ({min(numbers):,.2f} to {max(numbers):,.2f})")


if __name__ == "__main__":
    main()
