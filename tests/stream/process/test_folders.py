"""A folder that cannot be made is named, with the setting."""

from pathlib import Path

import pytest

from stream.drivers import open_log, open_store
from stream.process.folders import make_folder


@pytest.mark.parametrize("name", ["file", "file/inner/deep"])
def test_file_in_the_place_of_a_folder_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / name
    for make in (make_folder, lambda path: open_log(f"local:{path}"), lambda path: open_store(f"local:{path}")):
        with pytest.raises(NotADirectoryError, match=f"is no folder, .*HEADRACE_DATA__FOLDER: '{folder}'"):
            make(folder)


def test_folder_that_the_system_refuses_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot be made .no such file or directory.: make it, .*'/proc/data'"):
        make_folder(Path("/proc/data"))
