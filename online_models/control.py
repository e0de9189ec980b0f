"""What people tell the learner: records of the control topic."""

import msgspec


class RollbackOrder(msgspec.Struct, frozen=True, tag="rollback"):
    """Go back to a version.

    `skip` names offsets of events to leave out, by partition, and all the rest since that version is learnt again;
    without it, all that was learnt since is left out.
    """

    version: str
    skip: dict[str, list[tuple[int, int]]] | None = None


class CheckpointOrder(msgspec.Struct, frozen=True, tag="checkpoint"):
    """Write a checkpoint now."""


Order = RollbackOrder | CheckpointOrder
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
