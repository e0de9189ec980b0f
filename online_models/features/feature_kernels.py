"""Feature blocks of items, users and lists: each kernel fills columns that hold zeros."""

import numpy as np

from online_models.state.item_table import HORIZONS, ItemCounters, ItemLists, QueryColumns
from stream.clock import DAY_MS, HOUR_MS, MINUTE_MS
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
    "dislike_share",  # of all actions, smoothed by five
)
N_LOG_FEATURES = 28  # the first ones, of which the caller takes the logarithm
PLACE_FEATURES = (  # in lists with positions only
    "next_to_latest_after",  # 1: the place behind that of the latest item of the history in this list
    "next_to_latest_after_2",
    "next_to_latest_before",
    "next_to_latest_before_2",
    "list_history_items",  # log(1 + items of the history in the list)
)
USER_ITEM_FEATURES = (
    "user_item_actions",  # actions on the item, log(1 + n) like the counts below
    "user_item_recency",
    "user_item_rank_inverse",  # 1 / (1 + actions since)
    "user_item_session_actions",
    "user_item_strong_actions",  # without views and dwells
    "user_item_is_latest",
    "user_item_impressions",  # recent impressions of the item
    "user_item_impression_rank_inverse",  # 1 / (1 + items shown since)
    "user_item_dislikes",  # dislikes of the item and low ratings
    *PLACE_FEATURES,
)
POSITION_FEATURES = ("position_known", "position_first", "position_inverse", "position_log")
LIST_FEATURES = (
    *POSITION_FEATURES,
    "price",
    "price_rank",
    "price_vs_history",
)
CONTEXT_FEATURES = ("history_length", "session_depth", "list_length", "session_age", "hour_sin", "hour_cos")
RELATIVE_FEATURES = (  # that also occur as the difference to the best item of the list
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
def item_block(ts: np.ndarray, counters: ItemCounters, created: np.ndarray, lists: ItemLists, out: np.ndarray) -> None:
    """Fill the first columns with the counts, ages and rating of each item.

    `created` is a column of the catalog. A click rate is smoothed towards 0.06 by eight impressions, and its log is 0
    where nothing is known.
    """
    counts, stamp, first, last, total_counts, rating = counters
    start, row, _, _ = lists
    current = np.empty((4, HORIZONS.size), np.float32)
    unit, hour, no_action_hours = np.float32(1.0), np.float32(HOUR_MS), np.float32(np.exp(8.0))
    for i in range(ts.size):
        for m in range(start[i], start[i + 1]):
            r = row[m]
            if r < 0:
                out[m, :N_LOG_FEATURES] = unit
                continue
            age = np.float32(max(0, ts[i] - stamp[r]) / 1000.0)
            for h in range(HORIZONS.size):
                decay = np.float32(2.0) ** (-age / np.float32(HORIZONS[h]))
                for kind in range(4):
                    current[kind, h] = counts[r, kind, h] * decay
                out[m, h] = unit + (current[1, h] + current[2, h] + current[3, h])
            for h in range(1, 5):
                out[m, 5 + h] = unit + current[2, h]
                out[m, 9 + h] = unit + current[1, h]
                out[m, 16 + h] = unit + current[0, h]
                out[m, 20 + h] = (
                    np.float32(16.0) * (current[2, h] + np.float32(0.5)) / (current[0, h] + np.float32(8.0))
                )
            for h in range(3, 6):
                out[m, 11 + h] = unit + current[3, h]
            out[m, 25] = out[m, 26] = unit
            if first[r] > -(2**61):
                out[m, 25] = np.float32(0.1) + np.float32(max(0, ts[i] - first[r])) / hour
            if created[r] > -(2**61):
                out[m, 26] = unit + np.float32(max(0, ts[i] - created[r])) / (hour * np.float32(24.0))
            out[m, 27] = no_action_hours
            if last[r] > -(2**61):
                out[m, 27] = np.float32(0.1) + np.float32(max(0, ts[i] - last[r])) / hour
            out[m, 28] = rating[r, 0] / (rating[r, 1] + np.float32(5.0))
            out[m, 29] = np.log(unit + rating[r, 1])
            n_actions = np.float32(0.0)
            for t in range(1, total_counts.shape[1]):
                n_actions += np.float32(total_counts[r, t])
            out[m, 30] = np.float32(total_counts[r, 4]) / (n_actions + np.float32(5.0))


@kernel
def _write_places(
    begin: int, end: int, latest: int, log_found: np.float32, position: np.ndarray, out: np.ndarray, column: int
) -> None:
    """Mark the places beside that of entry `latest`, and write the count of found items to all."""
    for m in range(begin, end):
        if position[latest] < 0 or position[m] < 0:
            continue
        out[m, column + 4] = log_found
        distance = position[m] - position[latest]
        if 1 <= distance <= 2:
            out[m, column + distance - 1] = np.float32(1.0)
        elif -2 <= distance <= -1:
            out[m, column + 1 - distance] = np.float32(1.0)


@kernel
def user_item_block(
    queries: QueryColumns, lists: ItemLists, entry_index: np.ndarray, out: np.ndarray, column: int
) -> None:
    """Fill 14 columns with the user's actions on each item, and impressions of it.

    Five of them are about the places of these items in a list that has been shown, or that has an order of its own.
    """
    ts, session_start, _, history_start, history, disliked, history_type, history_ts, shown_start, shown = queries
    start, row, position, _ = lists
    for i in range(ts.size):
        begin, end = history_start[i], history_start[i + 1]
        latest, n_found = -1, np.float32(0.0)
        for m in range(start[i], start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = m
        for back in range(end - begin):
            h = end - 1 - back
            if disliked[h] >= 0 and entry_index[disliked[h]] >= 0:
                out[entry_index[disliked[h]], column + 8] += np.float32(1.0)
            if history[h] < 0 or entry_index[history[h]] < 0:
                continue
            m = entry_index[history[h]]
            latest = m if latest < 0 else latest
            if out[m, column] == 0.0:
                n_found += np.float32(1.0)
                hours = np.float32(max(0, ts[i] - history_ts[h]) / HOUR_MS)
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
        if latest >= 0:
            _write_places(start[i], start[i + 1], latest, np.log(np.float32(1.0) + n_found), position, out, column + 9)
        for m in range(start[i], start[i + 1]):
            for c in (0, 3, 4, 6, 8):
                out[m, column + c] = np.log(np.float32(1.0) + out[m, column + c])
            if row[m] >= 0:
                entry_index[row[m]] = -1


@kernel
def list_block(
    queries: QueryColumns, lists: ItemLists, catalog_price: np.ndarray, out: np.ndarray, column: int
) -> None:
    """Fill 7 columns with position and price, and 6 with the context of the whole list."""
    ts, session_start, session_depth, history_start, history, _, _, _, _, _ = queries
    start, row, position, price = lists
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
        unit = np.float32(1.0)
        context_column = column + 7
        day_angle = 2.0 * np.pi * ((ts[i] % DAY_MS) / DAY_MS)
        for m in range(begin, end):
            out[m, context_column] = np.log(unit + np.float32(history_start[i + 1] - history_start[i]))
            out[m, context_column + 1] = np.log(unit + np.float32(max(0, session_depth[i])))
            out[m, context_column + 2] = np.log(unit + np.float32(end - begin))
            out[m, context_column + 3] = np.log(unit + np.float32(max(0, ts[i] - session_start[i]) / MINUTE_MS))
            out[m, context_column + 4] = np.float32(np.sin(day_angle))
            out[m, context_column + 5] = np.float32(np.cos(day_angle))


@kernel
def log_columns(out: np.ndarray, column: int, scales: np.ndarray) -> None:
    """Replace scores of positive scale by log(1 + scale · score)."""
    for m in range(out.shape[0]):
        for c in range(scales.size):
            if scales[c] > 0.0:
                out[m, column + c] = np.log(np.float32(1.0) + scales[c] * out[m, column + c])


@kernel
def relative_to_best(start: np.ndarray, out: np.ndarray, columns: np.ndarray, column: int) -> None:
    """Write the difference of some columns to the best item of the list, from `column` on."""
    top = np.empty(columns.size, np.float32)
    for i in range(start.size - 1):
        top[:] = np.float32(-1e30)
        for m in range(start[i], start[i + 1]):
            for c in range(columns.size):
                top[c] = max(top[c], out[m, columns[c]])
        for m in range(start[i], start[i + 1]):
            for c in range(columns.size):
                out[m, column + c] = out[m, columns[c]] - top[c]
