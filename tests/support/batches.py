"""A small made-up shop as example batches: eight groups of items, people who stay in one, slates with one click."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stream.records.batches import N_CONTEXT, CandidateLists, EventType, ExampleBatch, Kind, Queries, ragged_starts

START = 1_700_000_000_000
ITEMS = np.arange(1, 201, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
GROUP = np.arange(200) % 8


def group_of(key: np.uint64) -> int:
    return int(GROUP[np.flatnonzero(key == ITEMS)[0]])


def questions(n: int, histories: list[list[int]], ts: np.ndarray, shown: Sequence[list[int]] | None = None) -> Queries:
    """People with histories of item numbers, a minute between their actions, and the numbers of what was shown."""
    seen = shown or [[] for _ in histories]
    lengths = np.array([len(history) for history in histories], np.int64)
    start = ragged_starts(lengths)
    flat = np.array([item for history in histories for item in history], np.int64)
    back = start[1:].repeat(lengths) - np.arange(start[-1])
    return Queries(
        ts=ts,
        user=np.arange(1, n + 1, dtype=np.uint64),
        surface=np.zeros(n, np.uint64),
        context=np.zeros((n, N_CONTEXT), np.uint64),
        session_start=ts - 60_000 * lengths,
        session_depth=lengths.astype(np.int32),
        rates=np.zeros((n, len(EventType)), np.float32),
        history_start=start,
        history_item=ITEMS[flat],
        history_type=np.full(flat.size, EventType.click, np.uint8),
        history_ts=ts.repeat(lengths) - 60_000 * back,
        shown_start=ragged_starts(np.array([len(items) for items in seen], np.int64)),
        shown_item=ITEMS[[item for items in seen for item in items]],
    )


def lists(chosen: list[list[int]], labels: list[list[float]] | None = None, shown: bool = True) -> CandidateLists:
    start = ragged_starts(np.array([len(items) for items in chosen], np.int64))
    flat = np.array([item for items in chosen for item in items], np.int64)
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


def batch_of(kinds: list[Kind], asked: Queries, shown: CandidateLists, impression: np.ndarray) -> ExampleBatch:
    n, kind = len(kinds), np.array(kinds, np.uint8)
    type_ = np.where((kind == Kind.action) | (kind == Kind.clicked), EventType.click, EventType.impression)
    return ExampleBatch(
        kind=kind,
        type=type_.astype(np.uint8),
        ts=asked.ts.copy(),
        value=np.full(n, np.nan, np.float32),
        organic=(kind == Kind.action) & (impression == 0),
        impression=impression,
        offset=np.arange(n, dtype=np.int64),
        impression_offset=np.full(n, -1, np.int64),
        version=np.zeros(n, np.uint64),
        producer=np.zeros(n, np.uint64),
        event=np.arange(1, n + 1, dtype=np.uint64),
        queries=asked,
        lists=shown,
        features=np.zeros((0, 0), np.float32),
        feature_row=np.full(n, -1, np.int32),
    )


def shopping(batches: int, seed: int = 1, people: int = 16) -> list[ExampleBatch]:
    """In each batch all act on an item of their group, are shown a slate, and take what is of their group."""
    rng = np.random.default_rng(seed)
    histories: list[list[int]] = [[] for _ in range(people)]
    made = []
    for number in range(batches):
        rows: list[tuple[Kind, int, list[int], list[float]]] = []
        acted = []
        for person in range(people):
            own = rng.choice(np.flatnonzero(person % 8 == GROUP)[:12], 2, replace=False).tolist()
            other = rng.choice(np.flatnonzero(person % 8 != GROUP), 5, replace=False).tolist()
            slate = rng.permutation([own[0], *other]).tolist()
            label = [float(item == own[0]) for item in slate]
            acted.append(own)
            rows += [
                (Kind.action, person, [own[1]], [1.0]),
                (Kind.shown, person, slate, [0.0] * 6),
                (Kind.action, person, [own[0]], [1.0]),
                (Kind.clicked, person, slate, label),
                (Kind.closed, person, slate, label),
            ]
        ts = START + 600_000 * number + 1000 * np.arange(len(rows), dtype=np.int64)
        asked = questions(len(rows), [histories[person][-20:] for _, person, _, _ in rows], ts)
        user = np.array([person + 1 for _, person, _, _ in rows], np.uint64)
        impression = np.where(np.arange(len(rows)) % 5 == 0, 0, 1000 * number + user.astype(np.int64)).astype(np.uint64)
        shown = lists([items for _, _, items, _ in rows], [labels for *_, labels in rows])
        made.append(batch_of([kind for kind, *_ in rows], replace(asked, user=user), shown, impression))
        for person, own in enumerate(acted):
            histories[person] += [own[1], own[0]]
    return made
