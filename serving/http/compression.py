"""Decompress request bodies."""

import zlib

_GZIP = 16 + zlib.MAX_WBITS


class TooLarge(ValueError):
    """A body exceeds the limit once it is decompressed."""


def gunzip(body: bytes, max_bytes: int) -> bytes:
    """Decompress one gzip member; ValueError if it is damaged, `TooLarge` above the limit.

    It stops at the limit, so that a small body cannot fill the memory.

    >>> import gzip
    >>> gunzip(gzip.compress(b"[]"), max_bytes=2)
    b'[]'
    """
    decoder = zlib.decompressobj(_GZIP)
    try:
        data = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"the body is not valid gzip: {error}") from None
    if len(data) > max_bytes:
        raise TooLarge(f"the body has more than {max_bytes} bytes once decompressed; expected at most {max_bytes}")
    if not decoder.eof:
        raise ValueError(f"the gzip body ends too early, after {len(body)} bytes")
    if decoder.unused_data:
        raise ValueError(f"the gzip body has {len(decoder.unused_data)} bytes after its end; expected one gzip member")
    return data
