"""Write small files so that a reader, or a crash, sees the whole content or none."""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write a file durably, and its folders; it replaces an earlier one at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    with partial_path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial_path.replace(path)
