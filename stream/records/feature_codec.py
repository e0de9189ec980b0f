"""Encode the features of a served slate into its impression, and decode them."""

import base64
import binascii

import numpy as np


def encode_features(features: np.ndarray) -> str:
    """Encode the feature block of a slate, (k, f) float32, as text for the impression event."""
    return f"{features.shape[1]}:{base64.b64encode(features.astype('<f4').tobytes()).decode()}"


def decode_features(text: str, size: int) -> np.ndarray | None:
    """Decode the feature block of a slate, (size, f) float32.

    None if the text is invalid or a value is not finite.
    """
    width, _, data = text.partition(":")
    try:
        block = np.frombuffer(base64.b64decode(data, validate=True), "<f4").reshape(size, int(width))
    except (ValueError, binascii.Error):
        return None
    return block.astype(np.float32) if np.isfinite(block).all() else None
