"""Example batches of a small shop: eight item groups, and one group for each user."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stream.clock import MINUTE_MS
from stream.records.batches import N_CONTEXT, CandidateLists, EventType, ExampleBatch, Kind, Queries, ragged_starts

START = 1_700_000_000_000
ITEMS = np.arange(1, 201, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
GROUP = np.arange(200) % 8


def find_group(key: np.uint64) -> int:
    """Group of an item, by its key."""
    return int(GROUP[np.flatnonzero(key == ITEMS)[0]])


def make_queries(
    n: int, histories: list[list[int]], ts: np.ndarray, shown: Sequence[list[int]] | None = None
) -> Queries:
    """Queries of users with histories of item numbers, a minute apart, and shown item numbers."""
    shown_lists = shown or [[] for _ in histories]
    lengths = np.array([len(history) for history in histories], np.int64)
    start = ragged_starts(lengths)
    flat = np.array([item for history in histories for item in history], np.int64)
    back = start[1:].repeat(lengths) - np.arange(start[-1])
    return Queries(
        ts=ts,
        user=np.arange(1, n + 1, dtype=np.uint64),
        surface=np.zeros(n, np.uint64),
        context=np.zeros((n, N_CONTEXT), np.uint64),
        session_start=ts - MINUTE_MS * lengths,
        session_depth=lengths.astype(np.int32),
        rates=np.zeros((n, len(EventType)), np.float32),
        history_start=start,
        history_item=ITEMS[flat],
        history_type=np.full(flat.size, EventType.click, np.uint8),
        history_ts=ts.repeat(lengths) - MINUTE_MS * back,
        shown_start=ragged_starts(np.array([len(items) for items in shown_lists], np.int64)),
        shown_item=ITEMS[[item for items in shown_lists for item in items]],
    )


def make_lists(
    item_lists: list[list[int]], labels: list[list[float]] | None = None, shown: bool = True
) -> CandidateLists:
    """Lists of item numbers, with labels 0 by default."""
    start = ragged_starts(np.array([len(items) for items in item_lists], np.int64))
    flat = np.array([item for items in item_lists for item in items], np.int64)
    size = flat.size
    position = (np.arange(size) - np.repeat(start[:-1], np.diff(start))).astype(np.int16)
    return CandidateLists(
        start=start,
        item=ITEMS[flat],
        label=np.zeros(size, np.float32) if labels is None else np.concatenate(labels).astype(np.float32),
        position=position if shown else np.full(size, -1, np.int16),
        propensity=np.full(size, np.nan, np.float32),
        price=np.full(size, np.nan, np.float32),
    )


def make_batch(kinds: list[Kind], queries: Queries, lists: CandidateLists, impression: np.ndarray) -> ExampleBatch:
    n, kind = len(kinds), np.array(kinds, np.uint8)
    type_ = np.where((kind == Kind.action) | (kind == Kind.clicked), EventType.click, EventType.impression)
    return ExampleBatch(
        kind=kind,
        type=type_.astype(np.uint8),
        ts=queries.ts.copy(),
        value=np.full(n, np.nan, np.float32),
        sign=np.ones(n, np.int8),
        organic=(kind == Kind.action) & (impression == 0),
        impression=impression,
        offset=np.arange(n, dtype=np.int64),
        impression_offset=np.full(n, -1, np.int64),
        version=np.zeros(n, np.uint64),
        producer=np.zeros(n, np.uint64),
        event=np.arange(1, n + 1, dtype=np.uint64),
        queries=queries,
        lists=lists,
        features=np.zeros((0, 0), np.float32),
        feature_row=np.full(n, -1, np.int32),
    )


def generate_batches(batches: int, seed: int = 1, users: int = 16) -> list[ExampleBatch]:
    """Every user acts on an item of their group in each batch, then clicks one in a slate."""
    rng = np.random.default_rng(seed)
    histories: list[list[int]] = [[] for _ in range(users)]
    result = []
    for number in range(batches):
        rows: list[tuple[Kind, int, list[int], list[float]]] = []
        clicked = []
        for user in range(users):
            own = rng.choice(np.flatnonzero(user % 8 == GROUP)[:12], 2, replace=False).tolist()
            other = rng.choice(np.flatnonzero(user % 8 != GROUP), 5, replace=False).tolist()
            slate = rng.permutation([own[0], *other]).tolist()
            label = [float(item == own[0]) for item in slate]
            clicked.append(own)
            rows += [
                (Kind.action, user, [own[1]], [1.0]),
                (Kind.shown, user, slate, [0.0] * 6),
                (Kind.action, user, [own[0]], [1.0]),
                (Kind.clicked, user, slate, label),
                (Kind.closed, user, slate, label),
            ]
        ts = START + 600_000 * number + 1000 * np.arange(len(rows), dtype=np.int64)
        queries = make_queries(len(rows), [histories[user][-20:] for _, user, _, _ in rows], ts)
        keys = np.array([user + 1 for _, user, _, _ in rows], np.uint64)
        impression = np.where(np.arange(len(rows)) % 5 == 0, 0, 1000 * number + keys.astype(np.int64)).astype(np.uint64)
        slates = make_lists([items for _, _, items, _ in rows], [labels for *_, labels in rows])
        result.append(make_batch([kind for kind, *_ in rows], replace(queries, user=keys), slates, impression))
        for user, own in enumerate(clicked):
            histories[user] += [own[1], own[0]]
    return result
