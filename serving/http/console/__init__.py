"""Console: one HTML page without external resources."""

from pathlib import Path

PAGE = (Path(__file__).parent / "index.html").read_text(encoding="utf-8")

__all__ = ["PAGE"]
