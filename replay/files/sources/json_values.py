"""Read JSON values one after another: arrays and pretty-printed objects of any size."""

import json
import re
from collections.abc import Iterator
from typing import IO

from replay.files.sources.compression import DamagedFile

_READ_CHARS = 1 << 18
_MAX_VALUE_CHARS = 1 << 26
_BETWEEN = re.compile(r"[\s,]*")


def read_values(stream: IO[str], start: int, name: str) -> Iterator[bytes]:
    """Yield the text of each value of the stream, or of the array that it begins with.

    The first `start` characters are left out. `DamagedFile`: a value is not JSON, or the text ends inside a value.
    """
    buffer = stream.read(_READ_CHARS)
    position = _BETWEEN.match(buffer, start).end()  # type: ignore[union-attr]
    is_array = buffer[position : position + 1] == "["
    position += is_array
    decode, offset, count = json.JSONDecoder().raw_decode, 0, 0
    while True:
        position = _BETWEEN.match(buffer, position).end()  # type: ignore[union-attr]
        if is_array and buffer[position : position + 1] == "]":
            return
        try:
            _, end = decode(buffer, position)
            if end == len(buffer):
                raise json.JSONDecodeError("the value can go on", buffer, end)
        except (json.JSONDecodeError, RecursionError) as error:
            more = stream.read(max(_READ_CHARS, len(buffer) - position))
            if more and len(buffer) - position < _MAX_VALUE_CHARS:
                offset, buffer, position = offset + position, buffer[position:] + more, 0
                continue
            if position < len(buffer) and not is_array and _is_value(buffer, position):
                yield buffer[position:].strip().encode(errors="surrogateescape")
                return
            if position == len(buffer) and not is_array:
                return
            place = f"after {count:,} records, at character {offset + getattr(error, 'pos', position):,}"
            raise DamagedFile(
                f"{name} is truncated or damaged {place}: the JSON does not go on as expected; the records before it "
                "are good"
            ) from None
        count += 1
        yield buffer[position:end].encode(errors="surrogateescape")
        position = end


def _is_value(buffer: str, position: int) -> bool:
    """Return True if the rest of the buffer is one whole value."""
    try:
        return json.JSONDecoder().raw_decode(buffer, position)[1] == len(buffer.rstrip())
    except json.JSONDecodeError:
        return False
