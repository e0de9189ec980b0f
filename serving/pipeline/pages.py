"""Tokens of pages: the items of all pages before, so that no server keeps them."""

import binascii
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

import numpy as np

MAX_ITEMS = 1000  # of all pages before the last one
_KEY_BYTES = 8
_CHECKSUM_BYTES = 4


def encode_page(keys: np.ndarray) -> str:
    """Token of the page after items with these keys, (n,) uint64.

    >>> decode_page(encode_page(np.array([3, 2**63], np.uint64))).tolist()
    [3, 9223372036854775808]
    """
    data = keys.astype("<u8").tobytes()
    return urlsafe_b64encode(_checksum(data) + data).decode()


def decode_page(token: str) -> np.ndarray:
    """Keys, (n,) uint64, of the items of the pages before; ValueError for text that is no token."""
    try:
        content = urlsafe_b64decode(token)
    except (binascii.Error, ValueError):
        content = b""
    data = content[_CHECKSUM_BYTES:]
    if len(data) % _KEY_BYTES or content[:_CHECKSUM_BYTES] != _checksum(data):
        raise ValueError(f"page_token {token[:32]!r} is invalid; expected the page_token of an earlier response")
    return np.frombuffer(data, "<u8").astype(np.uint64)


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")
