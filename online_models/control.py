"""What people, and the guard, tell the learner: records of the control topic."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from stream.logs import EventLog
from stream.topics import CONTROL

_READ = 4096


class RollbackOrder(msgspec.Struct, frozen=True, tag="rollback"):
    """Go back to a version.

    `skip` names offsets of events to leave out, by partition, and all the rest since that version is learnt again;
    without it, all that was learnt since is left out. `slates` names those of which only slates, and what answers them,
    are left out.
    """

    version: str
    skip: dict[str, list[tuple[int, int]]] | None = None
    reason: str = ""  # id of the alarm that it remedies, or what a person says
    slates: dict[str, list[tuple[int, int]]] = {}


class CheckpointOrder(msgspec.Struct, frozen=True, tag="checkpoint"):
    """Write a checkpoint now."""


class StrikeOrder(msgspec.Struct, frozen=True, tag="strike"):
    """Leave the actions on slates at some offsets of the events out of what people are known by, from now on."""

    slates: dict[str, list[tuple[int, int]]]  # by partition
    reason: str = ""  # id of the alarm that it remedies, or what a person says


class HoldOrder(msgspec.Struct, frozen=True, tag="hold"):
    """Take no steps until told to resume; answers go on."""

    reason: str = ""  # id of the alarm that it remedies, or what a person says
    version: str = ""  # the version to go on from when it is over
    first: dict[str, int] = {}  # offset of the first event that must not be learnt, by partition
    silent: tuple[int, int] | None = None  # surface and type of the actions that must be heard again
    since: int = 0  # event time, ms
    answers: float = 0.0  # a slate, to which they must come back after labels meant nothing

    @property
    def lasting(self) -> "Lasting | None":
        """What has to be over before learning goes on, None if only a person knows."""
        return self.answers or self.silent


class ResumeOrder(msgspec.Struct, frozen=True, tag="resume"):
    """Take steps again."""

    reason: str = ""


class ForgetOrder(msgspec.Struct, frozen=True, tag="forget"):
    """Leave out of what people are known by what they did before `since`, in questions before `until`."""

    since: int  # event time, ms; 0: all that they did counts
    until: int
    reason: str = ""  # id of the alarm that it remedies, or what a person says


Lasting = tuple[int, int] | float  # surface and type of actions that fell silent; the usual answers a slate
Order = RollbackOrder | CheckpointOrder | HoldOrder | ResumeOrder | ForgetOrder | StrikeOrder
_decoder = msgspec.json.Decoder(Order)


def encode_order(order: Order) -> bytes:
    return msgspec.json.encode(order)


def decode_order(value: bytes) -> Order:
    """ValueError says what is wrong with it."""
    try:
        order: Order = _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an order to the learner: {error}: {value[:80]!r}") from None
    return order


def orders_in(log: EventLog, control: int, since: int = 0) -> Iterator[Order]:
    """The orders before an offset that were appended at or after a time, ms, but for what is none."""
    return (order for _, order in orders_from(log, log.find_time(CONTROL, 0, since), control))


def orders_from(log: EventLog, first: int, control: int) -> Iterator[tuple[int, Order]]:
    """The orders in [first, control) with their offsets, but for what is none."""
    at = max(log.start(CONTROL, 0), first)
    while at < control and len(records := log.read(CONTROL, 0, at, min(_READ, control - at))):
        for offset, value in zip(records.offsets, records.values, strict=True):
            with suppress(ValueError):
                yield offset, decode_order(value or b"")
        at = records.offsets[-1] + 1


def hold_at(log: EventLog, control: int) -> HoldOrder | None:
    """The hold that is on for a learner that has read the orders before an offset; None: it takes steps."""
    hold: HoldOrder | None = None
    for order in orders_in(log, control):
        if isinstance(order, HoldOrder | ResumeOrder):
            hold = order if isinstance(order, HoldOrder) else None
    return hold
