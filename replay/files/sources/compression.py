"""Decompress gzip and zstd in chunks; an error names the place of the damage."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import zstandard

_GZIP_WINDOW = 31  # a gzip header and 32 KiB of history
_ZSTD_WINDOW_BYTES = 1 << 31  # files of `zstd --long=31`


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes) -> bytes: ...


class DamagedFile(OSError):
    """The rest of the file cannot be read; the records before are good."""


def _make_gzip_decoder() -> _Decoder:
    return zlib.decompressobj(_GZIP_WINDOW)


def _make_zstd_decoder() -> _Decoder:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


_MAGIC: dict[bytes, tuple[str, Callable[[], _Decoder]]] = {
    b"\x1f\x8b": ("gzip", _make_gzip_decoder),
    b"\x28\xb5\x2f\xfd": ("zstd", _make_zstd_decoder),
    b"\x50\x2a\x4d\x18": ("zstd", _make_zstd_decoder),  # a skippable frame, as pzstd writes first
}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"BZh": "compressed with bzip2: decompress it, for example bzip2 -dc FILE | headrace produce -",
    b"\xfd7zXZ": "compressed with xz: decompress it, for example xz -dc FILE | headrace produce -",
}


def decompress(name: str, first: bytes, rest: Iterable[bytes], position: Callable[[], int]) -> Iterator[bytes]:
    """Yield the plain bytes of a file; `position` is the number of bytes that were read of it.

    ValueError: the file has another compression.
    """
    for magic, advice in _OTHERS.items():
        if first.startswith(magic):
            raise ValueError(f"{name} is {advice}")
    for magic, (kind, make_decoder) in _MAGIC.items():
        if first.startswith(magic):
            return _decode(name, kind, make_decoder, _chain(first, rest), position)
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix) and first:
            raise DamagedFile(f"{name} is damaged at byte 0: it does not begin as a {kind} file")
    return _chain(first, rest)


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _decode(
    name: str, kind: str, make_decoder: Callable[[], _Decoder], chunks: Iterable[bytes], position: Callable[[], int]
) -> Iterator[bytes]:
    """Decode the frames of a file one after another; a file can have several."""
    decoder: _Decoder | None = None
    for chunk in chunks:
        data = chunk
        while data:
            if decoder is None:
                data = data.lstrip(b"\0") if kind == "gzip" else data  # gzip allows padding between members
                if not data:
                    break
                decoder = make_decoder()
            try:
                yield decoder.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                place = f"before byte {position():,}"
                raise DamagedFile(f"{name} is damaged {place}: {error}; expected {kind} data") from None
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise DamagedFile(f"{name} is truncated or damaged: it ends at byte {position():,} inside a {kind} frame")
