"""Errors as one sentence for people."""

from stream.process.secrets import mask_secrets


def describe_error(error: BaseException) -> str:
    """Text of an error without error numbers and secrets.

    >>> describe_error(FileNotFoundError(2, "No such file or directory", "items.jsonl"))
    'items.jsonl: no such file or directory'
    """
    if not isinstance(error, OSError) or not error.strerror:
        return mask_secrets(str(error))
    reason = error.strerror
    if reason[:1].isupper() and reason[1:2].islower():
        reason = reason[0].lower() + reason[1:]
    return mask_secrets(f"{_show_path(error.filename)}: {reason}" if error.filename else reason)


def _show_path(path: object) -> str:
    return path.decode(errors="replace") if isinstance(path, bytes) else str(path)
