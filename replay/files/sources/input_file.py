"""Open a file or standard input as plain bytes in UTF-8."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from replay.files.sources.compression import DamagedFile, decompress
from stream.process.errors import describe_error

_CHUNK_BYTES = 1 << 12  # a damaged chunk is lost whole
_HEAD_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 24  # of a first line that is longer than the head
_BUFFER_BYTES = 1 << 18
_UTF8_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class InputFile:
    """File whose bytes are decompressed; `head` has its first bytes.

    OSError: it does not exist or is damaged. ValueError: another encoding or compression.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else path
        self.size = 0 if path == "-" else Path(path).stat().st_size  # 0 = unknown
        self.position = 0  # bytes read, compressed
        self.head = b""
        self._raw: IO[bytes] = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115
        try:
            rest = self._read_start()
        except BaseException:
            self.close()
            raise
        if self.head.startswith(_UTF8_BOM):
            self.head = self.head[len(_UTF8_BOM) :]
        has_old_line_ends = b"\r" in self.head and b"\n" not in self.head
        if has_old_line_ends:
            self.head = self.head.replace(b"\r", b"\n")
        self.stream = io.BufferedReader(_ChunkStream(self.head, rest, has_old_line_ends), _BUFFER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.path != "-":
            self._raw.close()

    def _read_start(self) -> Iterator[bytes]:
        """Read the head; returns the chunks after it."""
        chunks = self._read_raw()
        plain = decompress(self.name, next(chunks, b""), chunks, lambda: self.position)
        self.head, rest = _read_head(plain)
        _check_encoding(self.name, self.head)
        return rest

    def _read_raw(self) -> Iterator[bytes]:
        try:
            while chunk := self._raw.read(_CHUNK_BYTES):
                self.position += len(chunk)
                yield chunk
        except OSError as error:
            raise DamagedFile(
                f"{self.name} cannot be read from byte {self.position:,} on: {describe_error(error)}"
            ) from None


class _ChunkStream(io.RawIOBase):
    """Raw stream over chunks."""

    def __init__(self, head: bytes, rest: Iterator[bytes], has_old_line_ends: bool) -> None:
        super().__init__()
        self._pending = memoryview(head)
        self._rest = rest
        self._has_old_line_ends = has_old_line_ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._pending:
            chunk = next(self._rest, None)
            if chunk is None:
                return 0
            self._pending = memoryview(chunk.replace(b"\r", b"\n") if self._has_old_line_ends else chunk)
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def _read_head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Read the first bytes; an error that follows them is raised when the rest is read."""
    parts: list[bytes] = []
    try:
        size, has_line = 0, False
        while size < _HEAD_BYTES or (not has_line and size < _MAX_LINE_BYTES):
            parts.append(next(chunks))
            size += len(parts[-1])
            has_line = has_line or b"\n" in parts[-1]
    except StopIteration:
        pass
    except OSError as error:
        if any(parts):
            return b"".join(parts), _raise_later(error)
        raise
    return b"".join(parts), chunks


def _raise_later(error: OSError) -> Iterator[bytes]:
    raise error
    yield b""


def _check_encoding(name: str, head: bytes) -> None:
    encoding = next((encoding for bom, encoding in _OTHER_BOMS.items() if head.startswith(bom)), "")
    if not encoding and not head.startswith(b"PAR1") and head[:1000].count(b"\0") > len(head[:1000]) // 4:
        encoding = "UTF-16LE" if head[1:2] == b"\0" else "UTF-16BE"
    if encoding:
        command = f"iconv -f {encoding} -t UTF-8 '{name}' > utf8-file"
        raise ValueError(f"{name} is text in {encoding}; expected UTF-8: convert it with {command}")
