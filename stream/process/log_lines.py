"""Log lines of a process: text or JSON on standard error, without secrets."""

import logging
import sys
import threading
import warnings
from contextvars import ContextVar
from datetime import datetime
from types import TracebackType
from typing import Any, Literal

import msgspec

from stream.process.secrets import mask_secrets

LineFormat = Literal["text", "json"]
request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the HTTP request that is being served


class LineFormatter(logging.Formatter):
    """Format a record as one line of text, with its traceback below it."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process:<6} %(levelname)-7s %(message)s")
        self._process = process

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Time of the record as ISO 8601 with the zone of this machine."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:
        request = request_id.get()
        return super().formatMessage(record) + (f" request_id={request}" if request else "")

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))


class JsonFormatter(LineFormatter):
    """Format a record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _to_text(record.getMessage()),
        }
        if request := request_id.get():
            fields["request_id"] = request
        if record.exc_info:
            fields["exception"] = _to_text(self.formatException(record.exc_info))
        return msgspec.json.encode(fields).decode()


def _to_text(message: str) -> str:
    """Text without secrets and without characters that UTF-8 cannot encode."""
    return mask_secrets(message).encode(errors="replace").decode()


def log_to_stderr(process: str, level: str = "info", line_format: LineFormat = "text") -> None:
    """Log records, warnings and unexpected errors to stderr, with the name of the process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(process) if line_format == "json" else LineFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # logs each instruction set that it tries
    sys.excepthook = _log_unexpected
    threading.excepthook = lambda arguments: _log_unexpected(
        arguments.exc_type, arguments.exc_value or arguments.exc_type(), arguments.exc_traceback
    )
    # OpenBLAS now and then sets this flag for finite input (numpy issue 24067); rankers check their values themselves.
    warnings.filterwarnings("ignore", "invalid value encountered in matmul", RuntimeWarning)


def _log_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("unexpected error: %s", error, exc_info=(kind, error, trace))
