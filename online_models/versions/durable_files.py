"""Write small files so that a reader, or a crash, sees the whole content or none."""

import os
from pathlib import Path

from stream.process.folders import make_folder


def write_file(path: Path, content: bytes) -> None:
    """Write a file durably, and its folders; it replaces an earlier one at once."""
    make_folder(path.parent)
    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    with partial_path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial_path.replace(path)
