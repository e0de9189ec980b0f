"""The kernels behind `features`: each fills its own columns of a matrix that holds zeros."""

import numpy as np

from stream.jit import kernel

_HORIZON_NAMES = ("10m", "1h", "6h", "1d", "7d", "60d")
ITEM_FEATURES = (
    *(f"actions_{h}" for h in _HORIZON_NAMES),
    *(f"clicks_{h}" for h in _HORIZON_NAMES[1:5]),
    *(f"views_{h}" for h in _HORIZON_NAMES[1:5]),
    *(f"valued_{h}" for h in _HORIZON_NAMES[3:]),
    *(f"shown_{h}" for h in _HORIZON_NAMES[1:5]),
    *(f"click_rate_{h}" for h in _HORIZON_NAMES[1:5]),
    "age",
    "since_created",
    "since_action",
    "rating",
    "rating_count",
)
N_LOG_FEATURES = 28  # of these, from the first on, are logarithms
USER_ITEM_FEATURES = (
    "user_item_actions",  # times met, log(1 + n) like the next counts
    "user_item_recency",
    "user_item_rank_inverse",  # 1 / (1 + items met since)
    "user_item_session_actions",
    "user_item_strong_actions",  # times met by more than a view
    "user_item_is_latest",
    "user_item_impressions",  # places in which it was lately shown
    "user_item_impression_rank_inverse",  # 1 / (1 + places shown since)
)
LIST_FEATURES = (
    "position_known",
    "position_first",
    "position_inverse",
    "position_log",
    "price",
    "price_rank",
    "price_vs_history",
)
CONTEXT_FEATURES = ("history_length", "session_depth", "list_length", "session_age", "hour_sin", "hour_cos")
_NO_ACTION_HOURS = np.float32(np.exp(8.0))  # hours since the last action on an item that saw none
RELATIVE_FEATURES = (  # of which a list's items are also told how far they lie behind its best
    "actions_1h",
    "actions_6h",
    "actions_1d",
    "actions_7d",
    "click_rate_1h",
    "click_rate_6h",
    "click_rate_1d",
    "age",
    "since_action",
    "user_item_recency",
)


@kernel
def item_block(
    ts: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    horizons: np.ndarray,
    counts: np.ndarray,
    stamp: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    rating: np.ndarray,
    created: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    """What is known of each item, whoever asks; of the first LOGGED columns that of which the log is to be taken.

    A click rate is smoothed towards 0.06 by eight impressions, and its log is 0 where nothing is known.
    """
    current = np.empty((4, horizons.size), np.float32)
    one, hour = np.float32(1.0), np.float32(3.6e6)
    for i in range(ts.size):
        for m in range(start[i], start[i + 1]):
            r = row[m]
            if r < 0:
                out[m, column : column + N_LOG_FEATURES] = one
                continue
            age = np.float32(max(0, ts[i] - stamp[r]) / 1000.0)
            for h in range(horizons.size):
                decay = np.float32(2.0) ** (-age / np.float32(horizons[h]))
                for kind in range(4):
                    current[kind, h] = counts[r, kind, h] * decay
                out[m, column + h] = one + (current[1, h] + current[2, h] + current[3, h])
            c = column + 6
            for h in range(1, 5):
                out[m, c + h - 1] = one + current[2, h]
                out[m, c + h + 3] = one + current[1, h]
                out[m, c + h + 10] = one + current[0, h]
                out[m, c + h + 14] = (
                    np.float32(16.0) * (current[2, h] + np.float32(0.5)) / (current[0, h] + np.float32(8.0))
                )
            for h in range(3, 6):
                out[m, c + 8 + h - 3] = one + current[3, h]
            c += 19
            out[m, c] = out[m, c + 1] = one
            if first[r] > -(2**61):
                out[m, c] = np.float32(0.1) + np.float32(max(0, ts[i] - first[r])) / hour
            if created[r] > -(2**61):
                out[m, c + 1] = one + np.float32(max(0, ts[i] - created[r])) / (hour * np.float32(24.0))
            out[m, c + 2] = _NO_ACTION_HOURS
            if last[r] > -(2**61):
                out[m, c + 2] = np.float32(0.1) + np.float32(max(0, ts[i] - last[r])) / hour
            out[m, c + 3] = rating[r, 0] / (rating[r, 1] + np.float32(5.0))
            out[m, c + 4] = np.log(one + rating[r, 1])


@kernel
def user_item_block(
    ts: np.ndarray,
    session_start: np.ndarray,
    history_start: np.ndarray,
    history: np.ndarray,
    history_type: np.ndarray,
    history_ts: np.ndarray,
    shown_start: np.ndarray,
    shown: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    entry_index: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    """What the person has had to do with each item."""
    for i in range(ts.size):
        begin, end = history_start[i], history_start[i + 1]
        for m in range(start[i], start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = m
        for back in range(end - begin):
            h = end - 1 - back
            if history[h] < 0 or entry_index[history[h]] < 0:
                continue
            m = entry_index[history[h]]
            if out[m, column] == 0.0:
                hours = np.float32(max(0, ts[i] - history_ts[h]) / 3.6e6)
                out[m, column + 1] = np.float32(1.0) / (np.float32(1.0) + np.log(np.float32(1.0) + hours))
                out[m, column + 2] = np.float32(1.0) / np.float32(1.0 + back)
                out[m, column + 5] = np.float32(1.0) if back == 0 else np.float32(0.0)
            out[m, column] += np.float32(1.0)
            if history_ts[h] >= session_start[i]:
                out[m, column + 3] += np.float32(1.0)
            if history_type[h] != 1 and history_type[h] != 7:
                out[m, column + 4] += np.float32(1.0)
        for back in range(shown_start[i + 1] - shown_start[i]):
            s = shown[shown_start[i + 1] - 1 - back]
            if s < 0 or entry_index[s] < 0:
                continue
            m = entry_index[s]
            if out[m, column + 6] == 0.0:
                out[m, column + 7] = np.float32(1.0) / np.float32(1.0 + back)
            out[m, column + 6] += np.float32(1.0)
        for m in range(start[i], start[i + 1]):
            for c in (0, 3, 4, 6):
                out[m, column + c] = np.log(np.float32(1.0) + out[m, column + c])
            if row[m] >= 0:
                entry_index[row[m]] = -1


@kernel
def list_block(
    ts: np.ndarray,
    session_start: np.ndarray,
    session_depth: np.ndarray,
    history_start: np.ndarray,
    history: np.ndarray,
    catalog_price: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    position: np.ndarray,
    price: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    """Place, price and what all items of a list share."""
    for i in range(ts.size):
        begin, end = start[i], start[i + 1]
        mean, n_priced = np.float32(0.0), 0
        for m in range(begin, end):
            p = price[m]
            if not (p > 0.0 and p < 1e12):
                p = catalog_price[row[m]] if row[m] >= 0 else np.float32(0.0)
            if p > 0.0 and p < 1e12:
                out[m, column + 4] = np.log(p)
                mean += out[m, column + 4]
                n_priced += 1
            if position[m] >= 0:
                out[m, column] = 1.0
                out[m, column + 1] = 1.0 if position[m] == 0 else 0.0
                out[m, column + 2] = np.float32(1.0) / np.float32(1.0 + position[m])
                out[m, column + 3] = np.log(np.float32(1.0 + position[m]))
        if n_priced:
            mean /= np.float32(n_priced)
            log_price_sum, n_history_prices = np.float32(0.0), 0
            for back in range(min(16, history_start[i + 1] - history_start[i])):
                o = history[history_start[i + 1] - 1 - back]
                if o >= 0 and catalog_price[o] > 0.0:
                    log_price_sum += np.log(catalog_price[o])
                    n_history_prices += 1
            for m in range(begin, end):
                if out[m, column + 4] == 0.0:
                    continue
                if n_history_prices:
                    out[m, column + 6] = abs(out[m, column + 4] - log_price_sum / np.float32(n_history_prices))
                if end - begin <= 64:
                    n_cheaper = 0
                    for o in range(begin, end):
                        n_cheaper += out[o, column + 4] != 0.0 and out[o, column + 4] < out[m, column + 4]
                    out[m, column + 5] = np.float32(n_cheaper / n_priced)
            for m in range(begin, end):
                if out[m, column + 4] != 0.0:
                    out[m, column + 4] -= mean
        one = np.float32(1.0)
        context_column = column + 7
        day_angle = 2.0 * np.pi * ((ts[i] % 86_400_000) / 86_400_000.0)
        for m in range(begin, end):
            out[m, context_column] = np.log(one + np.float32(history_start[i + 1] - history_start[i]))
            out[m, context_column + 1] = np.log(one + np.float32(max(0, session_depth[i])))
            out[m, context_column + 2] = np.log(one + np.float32(end - begin))
            out[m, context_column + 3] = np.log(one + np.float32(max(0, ts[i] - session_start[i]) / 60000.0))
            out[m, context_column + 4] = np.float32(np.sin(day_angle))
            out[m, context_column + 5] = np.float32(np.cos(day_angle))


@kernel
def log_columns(out: np.ndarray, column: int, scales: np.ndarray) -> None:
    """Sparse scores, spread: log(1 + scale · score)."""
    for m in range(out.shape[0]):
        for c in range(scales.size):
            if scales[c] > 0.0:
                out[m, column + c] = np.log(np.float32(1.0) + scales[c] * out[m, column + c])


@kernel
def relative_to_best(start: np.ndarray, out: np.ndarray, columns: np.ndarray, column: int) -> None:
    """How far each item of a list lies behind the list's best in the chosen columns."""
    top = np.empty(columns.size, np.float32)
    for i in range(start.size - 1):
        top[:] = np.float32(-1e30)
        for m in range(start[i], start[i + 1]):
            for c in range(columns.size):
                top[c] = max(top[c], out[m, columns[c]])
        for m in range(start[i], start[i + 1]):
            for c in range(columns.size):
                out[m, column + c] = out[m, columns[c]] - top[c]
