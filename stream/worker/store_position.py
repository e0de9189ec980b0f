"""Position up to which the user store is complete, compared with what stream has processed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stream.logs import EventLog
from stream.stores import UserStore
from stream.topics import EVENTS

STREAM_GROUP = "stream"  # its commits say that the users are written


@dataclass(frozen=True, slots=True)
class StorePosition:
    """Position up to which the user store is complete.

    Its text is the watermark, which moves together with the users.
    """

    next_offset: int = 0  # offset of the first event that is not in the stored users
    next_users_offset: int = 0  # the same for the users topic
    examples_end: int = 0  # end of the examples topic; blocks behind it can cover later events
    topic_id: str = ""  # of the events topic, shortened; empty if unknown
    fingerprint: str = ""  # of the event record before next_offset; empty if unknown
    stored_text: str = field(default="", compare=False)  # as the store has it; older versions wrote offsets only

    @property
    def text(self) -> str:
        """Watermark text; empty for an empty store."""
        if self.stored_text or not (self.next_offset or self.next_users_offset or self.examples_end):
            return self.stored_text
        offsets = f"{self.next_offset} {self.next_users_offset} {self.examples_end}"
        return f"{offsets} {self.topic_id or '-'} {self.fingerprint or '-'}"

    @classmethod
    def parse(cls, text: str) -> "StorePosition":
        offsets, names = text.split()[:3], ["" if name == "-" else name for name in text.split()[3:5]] + ["", ""]
        next_offset, next_users_offset, examples_end = map(int, offsets or (0, 0, 0))
        return cls(next_offset, next_users_offset, examples_end, names[0], names[1], stored_text=text)

    def with_users_offset(self, next_users_offset: int) -> "StorePosition":
        """Position after more records of the users topic."""
        return replace(self, next_users_offset=next_users_offset, stored_text="")


def read_store_positions(log: EventLog, store: UserStore) -> dict[int, StorePosition]:
    """Position of the store in each partition of the events topic."""
    return {p: StorePosition.parse(store.watermark(p)) for p in range(log.partitions(EVENTS))}


def read_committed(log: EventLog) -> dict[int, int]:
    """Next offset of stream, by partition."""
    return {partition: position.offset for partition, position in log.committed(EVENTS, STREAM_GROUP).items()}


def count_missing(committed: Mapping[int, int], store: UserStore) -> dict[int, int]:
    """Events by partition that stream has processed and the stored users lack, if any.

    The worker commits after it has written the users. So the store is behind a commit only if it has lost
    acknowledged writes, and until the worker has written them again. `committed`: read before the store, which moves
    first.
    """
    behind = {p: offset - StorePosition.parse(store.watermark(p)).next_offset for p, offset in committed.items()}
    return {p: count for p, count in behind.items() if count > 0}
