"""The installation that the settings describe: its log, its learner, its serve process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.client import Client, ClientError, ClientSettings
from stream.clock import SystemClock
from stream.config import Settings
from stream.logs import EventLog
from stream.topics import open_topics

_READINESS_TIMEOUT_S = 1.0


def has_log(settings: Settings) -> bool:
    """Return True unless the embedded log does not exist yet."""
    scheme, _, folder = settings.log_url.partition(":")
    return scheme != "local" or Path(folder).expanduser().is_dir()


@contextmanager
def open_existing_log(settings: Settings) -> Iterator[EventLog]:
    """Open the log of an installation; FileNotFoundError instead of creating an empty one."""
    if not has_log(settings):
        raise FileNotFoundError(
            f"there is no installation in {settings.data.folder.resolve()}: start `headrace up`, or set "
            "HEADRACE_DATA__FOLDER to the folder of a running one"
        )
    log = open_topics(settings, SystemClock())
    try:
        yield log
    finally:
        log.close()


def read_serving_state(settings: Settings) -> str:
    """State that the serve process of this installation serves; "" if none answers."""
    with Client(serve_url(settings), settings=ClientSettings(_READINESS_TIMEOUT_S, max_retries=0)) as client:
        try:
            status = client.readiness()
        except ClientError:
            return ""
    # Another installation may listen on the same port of this machine.
    return str(status.get("model_version", "")) if status.get("installation") == settings.installation else ""


def serve_url(settings: Settings) -> str:
    """Address of the serve process as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.serve.host, settings.serve.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.serve.port}"
