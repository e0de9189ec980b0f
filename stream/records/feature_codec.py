"""Features as served, encoded into an impression and decoded from it."""

import base64
import binascii

import numpy as np


def encode_features(features: np.ndarray) -> str:
    """The feature block of a slate, (k, f) float32, as text for the impression event."""
    return f"{features.shape[1]}:{base64.b64encode(features.astype('<f4').tobytes()).decode()}"


def _decode_features(text: str, size: int) -> np.ndarray | None:
    width, _, data = text.partition(":")
    try:
        block = np.frombuffer(base64.b64decode(data, validate=True), "<f4").reshape(size, int(width))
    except (ValueError, binascii.Error):
        return None
    return block.astype(np.float32) if np.isfinite(block).all() else None
