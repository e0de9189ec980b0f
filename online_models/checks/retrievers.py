"""Checks of retrievers: `for check in RETRIEVER: check(make)`.

`make(items)` gives a new retriever over an item table, each time the same.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from online_models.checks.learners import (
    LEARNER,
    Exercise,
    adapt,
    assert_finite,
    assert_same_bits,
    copy_state,
    require,
)
from online_models.retrievers.candidates import Exclusions
from online_models.retrievers.retriever import Retriever
from online_models.state.item_table import Actions, ItemLists, ItemTable, UserQueries
from online_models.state.tables import State
from stream.clock import MINUTE_MS
from stream.records.batches import N_CONTEXT, EventType, Queries, ragged_starts

RetrieverFactory = Callable[[ItemTable], Retriever]
K = 8
_N_ITEMS, _N_GROUPS, _N_USERS, _N_BATCHES = 48, 4, 12, 8
_START_MS = 1_700_000_000_000


def make_items() -> ItemTable:
    """Items in groups, with counts that favor the first ones."""
    items = ItemTable()
    rows = items.add_keys(np.arange(1, _N_ITEMS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    items.set_attributes(
        rows,
        (np.arange(_N_ITEMS)[:, None] % _N_GROUPS + 1).astype(np.uint64) * np.array([1, 0, 0, 0], np.uint64),
        _START_MS - MINUTE_MS * np.arange(_N_ITEMS),
        np.full(_N_ITEMS, 10, np.float32),
    )
    counters = items.counters
    counters["counts"][rows] = (_N_ITEMS / (1 + np.arange(_N_ITEMS, dtype=np.float32)))[:, None, None]
    for column in ("stamp", "first", "last"):
        counters[column][rows] = _START_MS
    return items


def make_users(items: ItemTable, histories: list[list[int]], ts: int) -> UserQueries:
    """Queries of users with these item rows as their history, a minute apart."""
    n, lengths = len(histories), np.array([len(history) for history in histories], np.int64)
    start, flat = ragged_starts(lengths), np.array([row for history in histories for row in history], np.int64)
    age = start[1:].repeat(lengths) - np.arange(start[-1])
    times = np.full(n, ts)
    queries = Queries(
        ts=times,
        user=np.arange(1, n + 1, dtype=np.uint64),
        surface=np.zeros(n, np.uint64),
        context=np.zeros((n, N_CONTEXT), np.uint64),
        session_start=times - MINUTE_MS * lengths,
        session_depth=lengths.astype(np.int32),
        rates=np.zeros((n, len(EventType)), np.float32),
        history_start=start,
        history_item=items.keys[flat],
        history_type=np.full(flat.size, EventType.click, np.uint8),
        history_ts=times.repeat(lengths) - MINUTE_MS * age,
        shown_start=np.zeros(n + 1, np.int64),
        shown_item=np.zeros(0, np.uint64),
    )
    return items.resolve_queries(queries)


def make_actions(items: ItemTable, seed: int = 0) -> list[Actions]:
    """Batches in which each user acts on an item of their group."""
    rng, histories, batches = np.random.default_rng(seed), [[] for _ in range(_N_USERS)], []  # type: ignore[var-annotated]
    for number in range(_N_BATCHES):
        ts = _START_MS + MINUTE_MS * (number + 1)
        rows = rng.integers(0, _N_ITEMS // _N_GROUPS, _N_USERS) * _N_GROUPS + np.arange(_N_USERS) % _N_GROUPS
        users = make_users(items, [list(history) for history in histories], ts)
        batches.append(Actions(users, rows.astype(np.int32), np.full(_N_USERS, ts)))
        for history, row in zip(histories, rows.tolist(), strict=True):
            history.append(row)
    return batches


def exercise_retriever(make: RetrieverFactory) -> Exercise[Retriever, Actions]:
    items = make_items()
    batches = make_actions(items)

    def predict(retriever: Retriever) -> State:
        users = batches[-1].users
        found = retriever.retrieve(users, K)
        return {"rows": found} | _scores(retriever, users)

    return Exercise(lambda: make(items), batches, lambda retriever, actions: retriever.learn(actions), predict)


def _scores(retriever: Retriever, users: UserQueries) -> State:
    """Scores of all items for each user."""
    n = _N_USERS * _N_ITEMS
    row, position = np.tile(np.arange(_N_ITEMS, dtype=np.int32), _N_USERS), np.full(n, -1, np.int16)
    lists = ItemLists(np.arange(_N_USERS + 1) * _N_ITEMS, row, position, np.full(n, np.nan, np.float32))
    out = np.zeros((n, len(retriever.names)), np.float32)
    retriever.write_scores(users, lists, out, 0)
    return {"scores": out}


def check_rows_are_eligible_items(make: RetrieverFactory) -> None:
    exercise = exercise_retriever(make)
    retriever, users = exercise.train(), exercise.batches[-1].users
    for eligible in (np.ones(_N_ITEMS, np.uint8), (np.arange(_N_ITEMS) % 3 == 0).astype(np.uint8)):
        rows = retriever.retrieve(users, K, eligible)
        is_valid = rows.dtype == np.int32 and rows.ndim == 2 and rows.shape[0] == _N_USERS
        require(is_valid, f"rows must be ({_N_USERS}, k) int32, got {rows.shape} {rows.dtype}")
        found = rows[rows != -1]
        is_eligible = bool(((found >= 0) & (found < _N_ITEMS)).all()) and bool(eligible[found].all())
        require(is_eligible, f"rows must be -1 or eligible items, got {rows}")


def check_trained_retriever_finds_items(make: RetrieverFactory) -> None:
    exercise = exercise_retriever(make)
    rows = exercise.predict(exercise.train())["rows"]
    share = float(((rows != -1).any(axis=1)).mean())
    require(share == 1, f"users with a history must get candidates, but only {share:.0%} do")


def check_unknown_users_and_items(make: RetrieverFactory) -> None:
    exercise = exercise_retriever(make)
    items = make_items()
    known = make_users(items, [[], [0, 5]], _START_MS)
    users = UserQueries(known.queries, np.full_like(known.history, -1), known.shown, known.disliked)
    for retriever in (exercise.make(), exercise.train()):
        before = copy_state(retriever.state())
        rows = retriever.retrieve(users, K)
        require(rows.shape[0] == 2 and bool((rows >= -1).all()), f"unknown users must get valid rows, got {rows}")
        assert_same_bits(before, retriever.state(), "the state after unknown users")


def check_no_actions(make: RetrieverFactory) -> None:
    exercise = exercise_retriever(make)
    retriever, actions = exercise.train(), exercise.batches[0]
    before = copy_state(retriever.state())
    none = np.zeros(0, np.int64)
    retriever.learn(Actions(actions.users.take(none), actions.row[:0], actions.ts[:0]))
    assert_same_bits(before, retriever.state(), "the state after a batch without actions")


def check_names_have_scales(make: RetrieverFactory) -> None:
    retriever = make(make_items())
    names, scales = retriever.names, retriever.scales
    require(len(names) == len(scales), f"each score needs a name and a scale, got {names} and {scales}")


def check_excluded_items_are_not_found(make: RetrieverFactory) -> None:
    """Excluded items may occur only in rows of more than k columns, equal for all users."""
    exercise = exercise_retriever(make)
    retriever, users = exercise.train(), exercise.batches[-1].users
    exclusions = Exclusions(users.queries.history_start, users.history)
    rows = retriever.retrieve(users, K, exclusions=exclusions)
    if rows.shape[1] <= K:
        excluded = [users.history[a:b] for a, b in pairwise(exclusions.start.tolist())]
        is_kept = not any(np.isin(found, none).any() for found, none in zip(rows, excluded, strict=True))
        require(is_kept, f"excluded items must not be found, got {rows}")
    else:
        require(bool((rows == rows[0]).all()), "rows of more than k columns must be the same for all users")


def check_scores_are_finite(make: RetrieverFactory) -> None:
    exercise = exercise_retriever(make)
    retriever = exercise.train()
    assert_finite(_scores(retriever, exercise.batches[-1].users), "scores")


RETRIEVER: tuple[Callable[[RetrieverFactory], None], ...] = (
    *adapt(LEARNER, exercise_retriever),
    check_rows_are_eligible_items,
    check_trained_retriever_finds_items,
    check_unknown_users_and_items,
    check_no_actions,
    check_names_have_scales,
    check_excluded_items_are_not_found,
    check_scores_are_finite,
)
