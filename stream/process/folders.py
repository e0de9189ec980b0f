"""Create the folders of an installation."""

import errno
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, if they are missing.

    OSError with the advice, NotADirectoryError if a file has its name or that of a parent.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        message = "is no folder, and none can be made: move the file away, or use another HEADRACE_DATA__FOLDER"
        raise NotADirectoryError(errno.ENOTDIR, message, str(folder)) from None
    except OSError as error:
        message = f"the folder cannot be made ({(error.strerror or str(error)).lower()}): make it, or use another"
        raise OSError(error.errno, f"{message} HEADRACE_DATA__FOLDER", str(folder)) from None
