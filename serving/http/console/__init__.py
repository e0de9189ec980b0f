"""The page that people look at: one file, no outside parts."""

from pathlib import Path

PAGE = (Path(__file__).parent / "index.html").read_text(encoding="utf-8")

__all__ = ["PAGE"]
