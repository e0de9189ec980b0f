"""Identity of a learner, by which a log admits the learner of one folder only."""

import uuid
from pathlib import Path

from online_models.versions.durable_files import write_file
from stream.logs import EventLog
from stream.records.topic_registry import read_learner, register_learner

FILE_NAME = "learner-id"


class OtherLearner(ValueError):
    """The learner of another folder trains on the log."""


def claim_log(log: EventLog, folder: Path) -> None:
    """Register the learner of a checkpoint folder with the log, once and for all.

    OtherLearner if that of another folder is registered: both would publish model updates of the same step, and
    replicas would mix two models.
    """
    id = read_id(folder) or _create_id(folder)
    if register_learner(log, id) != id:
        raise OtherLearner(describe_mismatch(log, folder))


def describe_mismatch(log: EventLog, folder: Path) -> str:
    """Explain why a folder is not that of the learner of the log; "" if it is."""
    registered, id = read_learner(log), read_id(folder)
    if not registered or registered == id:
        return ""
    own = f"learner {id}" if id else "none"
    return (
        f"the log is that of learner {registered}, but {folder} is the folder of {own}: set HEADRACE_DATA__FOLDER to "
        "that learner's folder, restore its backup, or use another HEADRACE_LOG__PREFIX; if its folder is lost for "
        f"good, write {registered} into {folder / FILE_NAME} to train a new model on this log"
    )


def read_id(folder: Path) -> str:
    """Id of the learner of this folder, "" if it never had one."""
    try:
        return (folder / FILE_NAME).read_text().strip()
    except FileNotFoundError:
        return ""


def _create_id(folder: Path) -> str:
    id = str(uuid.uuid4())
    write_file(folder / FILE_NAME, id.encode())
    return id
