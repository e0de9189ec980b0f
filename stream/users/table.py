"""User state in columns, with one row per recently active user of this worker's partitions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.ids import NO_KEY, KeyIndex, hash_ids
from stream.logs import Records
from stream.records.batches import Queries, ragged_starts
from stream.records.decoding import LATEST_ACTION, EventBatch
from stream.records.events import Event
from stream.records.fields import user_field_keys
from stream.records.signs import history_types
from stream.stores import StoreWatermark, UserStore
from stream.users.columns import HISTORY_CAPACITY, allocate_columns, clear, encode_rows, forget, grow, write_profiles
from stream.users.event_kernels import EventColumns, PreEventState, UserColumns, allocate, apply
from stream.users.merges import NO_OPERATION, OPERATION_ATTACH, OPERATION_DETACH, Operations, find_operations
from stream.users.owned_items import OwnedItems
from stream.users.profiles import (
    N_HISTORY,
    N_QUERY_HISTORY,
    StoredProfile,
    decode_stored_profile,
    history_line,
    refuses_consent,
)
from stream.users.rate_limits import FORGOTTEN, UNLIMITED, WITHOUT_CONSENT, RateLimits


@dataclass(frozen=True, slots=True)
class DetachedUser:
    """State of an anonymous user, whom event `row` has emptied."""

    row: int
    lines: Sequence[bytes]  # item and event ids of the history
    types: Sequence[int]  # as the history holds them
    ts: Sequence[int]  # ms
    counts: Sequence[int]  # of all events, by type


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """State of each user just before each event, and the rate limits that the event violates."""

    queries: Queries
    violation: np.ndarray  # (n,) uint8, index in `rate_limits.DETECTORS` or `FORGOTTEN`, 0 = none
    detached: Sequence[DetachedUser]
    operations: Operations
    attached_position: np.ndarray  # (a,) int16, of attached actions in the history of the query, -1 = it is not there
    is_undone: np.ndarray  # (n,) bool, a retraction whose action was taken back
    undone_position: np.ndarray  # (n,) int16, of that action in the history of the query, -1 = it is not there
    is_alarm: np.ndarray  # (n,) bool, a violation that raises an alarm; at most one per user and hour


class UserTable:
    """Read users from the store on first use, apply events, write back changed users.

    Each user stores the offset of the last event applied and its partition, so events that are applied again change
    nothing, and offsets of another partition are not compared. Only
    `flush` writes, because examples must be published before users are stored. So the table grows beyond `rows` when
    one micro-batch needs it.
    """

    def __init__(self, store: UserStore, rows: int, rate_limits: RateLimits = UNLIMITED) -> None:
        self._store = store
        self._limits = rate_limits.limits
        self._capacity = rows
        self._columns = allocate_columns(rows)
        self.clear_cache()

    def clear_cache(self) -> None:
        """Drop all rows, so that users are read from the store again; flush first."""
        if self._columns["key"].size > self._capacity:
            self._columns = allocate_columns(self._capacity)
        clear(self._columns)
        self._texts: list[bytes] = [b""] * self._capacity  # by row: item and event ids of the history
        self._user_ids: list[str] = [""] * self._capacity
        self._attributes: list[bytes] = [b""] * self._capacity
        self._owned = OwnedItems(self._capacity)
        self._index = KeyIndex(self._capacity)
        self._used = 0
        self._changed = np.zeros(self._capacity, np.bool_)

    def apply(self, batch: EventBatch, events: Sequence[Event], partition: int = 0) -> ApplyResult:
        """Apply events in order; returns the state of each user just before each event.

        The query of a retraction has the history around the action that it takes back, before it is removed.
        An event that violates a rate limit changes only the counts of the rate limits, one from before its user was
        forgotten changes nothing. `events`: one per row of `batch`. `partition`: of the events.
        """
        rows = self._find_or_load(batch.user)
        known_rows = rows[rows >= 0]  # without the events of nobody
        self._set_partition(known_rows, partition)
        self._fill_event_keys(np.unique(rows[(rows >= 0) & (batch.retraction > LATEST_ACTION)]))
        columns = UserColumns(*(self._columns[name] for name in UserColumns._fields))
        operations = find_operations(events)
        n_attached = np.diff(operations.start)
        attached_rows = np.repeat(rows, np.where(rows >= 0, n_attached, 0))
        self._owned.make_room(np.concatenate([known_rows, attached_rows]), columns.interacted_size, columns.interacted)
        max_history = np.minimum(columns.size[rows] + np.arange(len(batch)), N_QUERY_HISTORY)
        max_history[operations.operation != NO_OPERATION] = HISTORY_CAPACITY
        pre_event = allocate(len(batch), int(max_history.sum()), operations)
        event_columns = EventColumns(
            rows, batch.offset, batch.type, history_types(batch.type, batch.sign), batch.ts, batch.item,
            batch.impression, batch.event, batch.retraction, batch.is_released, batch.lists.start, batch.lists.item,
        )  # fmt: skip
        n_history, n_shown = apply(event_columns, operations, columns, self._owned.long_lists, self._limits, pre_event)
        self._changed[rows[pre_event.is_applied]] = True
        detached_lines = self._update_text(rows, np.flatnonzero(pre_event.is_applied), pre_event, events, operations)
        queries = Queries(
            ts=batch.ts,
            user=batch.user,
            surface=batch.surface,
            context=batch.context,
            session_start=pre_event.session_start,
            session_depth=pre_event.session_depth,
            rates=pre_event.rates,
            history_start=ragged_starts(pre_event.history_lengths),
            history_item=pre_event.item[:n_history],
            history_type=pre_event.type[:n_history],
            history_ts=pre_event.ts[:n_history],
            shown_start=ragged_starts(pre_event.shown_lengths),
            shown_item=pre_event.shown[:n_shown],
            user_keys=self._columns["fields"][rows],
        )
        detached = [_describe_detached(row, lines, queries, pre_event) for row, lines in detached_lines.items()]
        return ApplyResult(
            queries,
            pre_event.violation,
            detached,
            operations,
            pre_event.attached_position,
            pre_event.is_undone,
            pre_event.undone_position,
            pre_event.is_alarm,
        )

    def _fill_event_keys(self, rows: np.ndarray) -> None:
        """Compute the keys of the event ids in histories that came from the store.

        The text of a row that was written may have fewer lines than its history: those of its newest actions.
        """
        for row in rows[~self._columns["has_event_keys"][rows]].tolist():
            size = int(self._columns["size"][row])
            lines = self._texts[row].decode().split("\n")[:-1][-size:] if size else []
            keys = hash_ids([line.partition("\t")[2] for line in lines])
            self._columns["event"][row, size - len(lines) : size] = keys
            self._columns["has_event_keys"][row] = True

    def _update_text(
        self, rows: np.ndarray, indices: np.ndarray, pre_event: PreEventState, events: Sequence[Event],
        operations: Operations,
    ) -> dict[int, list[bytes]]:  # fmt: skip
        """Append the original ids of applied events; remove those of actions taken back.

        Once per user and batch, because a text is copied whenever it grows. Returns the lines of each event that has
        detached its user.
        """
        detached: dict[int, list[bytes]] = {}
        violation = pre_event.violation
        indices = indices[(violation[indices] != FORGOTTEN) & (violation[indices] != WITHOUT_CONSENT)]
        lines: defaultdict[int, list[bytes]] = defaultdict(list)
        columns = indices, rows[indices], violation[indices], pre_event.n_behind[indices]
        for i, row, code, n_behind in zip(*(column.tolist() for column in columns), strict=True):
            event = events[i]
            self._user_ids[row] = event.user_id or event.user
            if operations.operation[i] == OPERATION_DETACH and code == 0:
                size = int(pre_event.history_lengths[i])
                all_lines = [*self._texts[row].splitlines(keepends=True), *lines.pop(row, [])]
                detached[i], self._texts[row] = all_lines[-size:] if size else [], b""
            elif operations.operation[i] == OPERATION_ATTACH and code == 0:
                all_lines = [*self._texts[row].splitlines(keepends=True), *lines.pop(row, [])]
                behind = pre_event.attached_behind[operations.start[i] : operations.start[i + 1]].tolist()
                self._texts[row] = b"".join(_insert_lines(all_lines, event, behind))
            elif n_behind >= 0:
                self._remove_line(row, lines[row], n_behind)
            elif not code and (line := history_line(event)):
                lines[row].append(line)
        for row, new_lines in lines.items():
            self._texts[row] = b"".join((self._texts[row], *new_lines))
        return detached

    def _remove_line(self, row: int, new_lines: list[bytes], n_behind: int) -> None:
        """Remove the line with so many lines behind it, from the new ones or from the text of a row."""
        if n_behind < len(new_lines):
            del new_lines[-1 - n_behind]
            return
        lines = self._texts[row].splitlines(keepends=True)
        del lines[len(new_lines) - n_behind - 1]
        self._texts[row] = b"".join(lines)

    def set_attributes(self, keys: np.ndarray, user_ids: Sequence[str], records: Records, partition: int = 0) -> None:
        """Apply records of the users topic: attributes as JSON, or None to forget the user.

        A user who refuses consent is forgotten but for the attributes, and so are later events.
        """
        rows = self._find_or_load(keys)
        self._set_partition(rows, partition)
        columns = records.offsets, records.values, records.times
        for row, user_id, offset, value, ts in zip(rows.tolist(), user_ids, *columns, strict=True):
            if offset <= self._columns["users_offset"][row]:
                continue
            self._columns["users_offset"][row] = offset
            self._user_ids[row] = user_id
            self._attributes[row] = value or b""
            self._columns["fields"][row] = user_field_keys(value or b"")
            has_refused = refuses_consent(self._attributes[row])
            if value is None or has_refused:
                self._forget(row, ts)
                self._attributes[row] = value if value and has_refused else b""
            self._columns["has_refused"][row] = has_refused
            self._changed[row] = True

    def ban(
        self, keys: np.ndarray, offsets: Sequence[int], items: Sequence[int], end_ts: Sequence[int], partition: int = 0
    ) -> None:
        """Apply bans of the users topic: quarantine actions on one item up to a time, ms."""
        rows = self._find_or_load(keys)
        self._set_partition(rows, partition)
        for row, offset, item, ts in zip(rows.tolist(), offsets, items, end_ts, strict=True):
            if offset > self._columns["users_offset"][row]:
                self._columns["users_offset"][row] = offset
                self._columns["banned_item"][row], self._columns["ban_end_ts"][row] = item, ts
                self._changed[row] = True

    def flush(self, watermarks: Sequence[StoreWatermark] = ()) -> int:
        """Write changed users to the store together with watermarks; returns the number of users."""
        rows = np.flatnonzero(self._changed)
        if rows.size or watermarks:
            self._store.put_many(self._columns["key"][rows], self._encode_rows(rows) if rows.size else [], watermarks)
            self._changed[rows] = False
        if self._used > 0.75 * self._capacity:
            self.clear_cache()
        return int(rows.size)

    def _find_or_load(self, keys: np.ndarray) -> np.ndarray:
        missing = np.unique(keys[(self._index.lookup(keys) < 0) & (keys != NO_KEY)])
        if missing.size:
            self._reserve(self._used + missing.size)
            self._load(missing)
        return self._index.lookup(keys)

    def _set_partition(self, rows: np.ndarray, partition: int) -> None:
        """Set the partition of users; offsets of another partition say nothing about this one."""
        known = self._columns["partition"][rows]
        moved = rows[(known >= 0) & (known != partition)]
        self._columns["offset"][moved] = self._columns["users_offset"][moved] = -1
        self._columns["partition"][rows] = partition

    def _reserve(self, rows: int) -> None:
        size = self._changed.size
        if rows <= size:
            return
        self._columns = grow(self._columns, max(rows, 2 * size))
        extra = self._columns["key"].size - size
        self._texts += [b""] * extra
        self._user_ids += [""] * extra
        self._attributes += [b""] * extra
        self._owned.grow(size + extra)
        self._changed = np.concatenate([self._changed, np.zeros(extra, np.bool_)])

    def _load(self, keys: np.ndarray) -> None:
        rows, _ = self._index.lookup_or_insert(keys, self._used)
        self._used += keys.size
        self._columns["key"][rows] = keys
        values = self._store.get_many(keys)
        hits = [i for i, value in enumerate(values) if value is not None]
        if hits:
            self._write_profiles(rows[hits], [decode_stored_profile(values[i] or b"") for i in hits])

    def _encode_rows(self, rows: np.ndarray) -> list[bytes]:
        row_list = rows.tolist()
        user_ids = [self._user_ids[row] for row in row_list]
        texts = [self._trim_text(row) for row in row_list]
        attributes = [self._attributes[row] for row in row_list]
        return encode_rows(self._columns, rows, user_ids, texts, attributes, self._owned)

    def _trim_text(self, row: int) -> bytes:
        """Text of a row, cut to the history that is kept."""
        text = self._texts[row]
        if text.count(b"\n") > N_HISTORY:
            text = self._texts[row] = b"\n".join(text.split(b"\n")[-N_HISTORY - 1 :])
        return text

    def _write_profiles(self, rows: np.ndarray, records: Sequence[StoredProfile]) -> None:
        write_profiles(self._columns, rows, records, self._owned)
        for row, record in zip(rows.tolist(), records, strict=True):
            self._user_ids[row], self._texts[row] = record.user_id, record.text
            self._attributes[row] = record.attributes
            self._columns["has_refused"][row] = refuses_consent(record.attributes)

    def _forget(self, row: int, ts: int) -> None:
        forget(self._columns, row, ts)
        self._user_ids[row] = ""
        self._texts[row] = self._attributes[row] = b""


def _insert_lines(lines: list[bytes], event: Event, behind: Sequence[int]) -> list[bytes]:
    """Insert the lines of attached actions, each with so many lines behind it; -1 = too old."""
    for action, n_behind in zip(event.actions or (), behind, strict=True):
        if n_behind >= 0:
            lines.insert(len(lines) - n_behind, f"{action.item_id}\t{action.event_id}\n".encode())
    return lines


def _describe_detached(row: int, lines: list[bytes], queries: Queries, pre_event: PreEventState) -> DetachedUser:
    history = slice(queries.history_start[row], queries.history_start[row + 1])
    types, ts = queries.history_type[history].tolist(), queries.history_ts[history].tolist()
    return DetachedUser(row, lines, types, ts, pre_event.detached_counts[row].tolist())
