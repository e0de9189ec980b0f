"""Checks of this machine: Python, data folder, ranker, ports and codecs."""

import os
import shutil
import sys
from pathlib import Path

from headrace.diagnostics.results import CheckResult, failed, passed
from headrace.ports import find_bind_error, format_address
from stream.config import Settings, variable_name
from stream.kafka.url import parse_url

_MIN_FREE_BYTES = 1 << 30
_CODECS = ("gzip", "snappy", "lz4", "zstd")  # with which producers of Kafka compress


def check_python() -> CheckResult:
    return CheckResult("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer")


def check_folder(settings: Settings) -> CheckResult:
    """Check that the data folder, or the one that will hold it, is writable and has space."""
    folder = settings.data.folder.resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return failed("data folder", f"{existing} is a file", "set HEADRACE_DATA__FOLDER to a folder")
    if not _is_writable(existing):
        fix = f"make {existing} writable for user id {os.geteuid()}, or set HEADRACE_DATA__FOLDER to another folder"
        return failed("data folder", f"{existing} is not writable", fix)
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {free / 1e9:.1f} GB free" + ("" if existing == folder else "; the first start creates it")
    fix = "free disk space, or set HEADRACE_DATA__FOLDER to a folder on a larger disk"
    return CheckResult("data folder", free > _MIN_FREE_BYTES, detail, fix)


def _is_writable(folder: Path) -> bool:
    """Return True if this process can create files there.

    Permissions alone do not show that a disk is read-only.
    """
    probe = folder / f".check-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError:
        return False
    return True


def check_ranker(settings: Settings) -> CheckResult:
    from online_models.plugins import load_ranker

    load_ranker(settings.learn.ranker)
    return passed("ranker", settings.learn.ranker)


def check_codecs(settings: Settings) -> CheckResult:
    """Check that this machine can read every codec with which producers may compress records."""
    if not settings.log_url.startswith("kafka:"):
        return passed("codecs", "the embedded log needs none")
    if parse_url(settings.log_url).client == "confluent":
        return passed("codecs", f"{', '.join(_CODECS)} are built into confluent-kafka")
    from stream.kafka.kafka_python.connections import is_codec_available

    if missing := [codec for codec in _CODECS if not is_codec_available(codec)]:
        fix = "install Headrace again with all of its dependencies"
        return failed("codecs", f"no package reads records compressed with {', '.join(missing)}", fix)
    return passed("codecs", f"{', '.join(_CODECS)} can be read")


def check_port(settings: Settings, is_served: bool, is_elsewhere: bool) -> CheckResult:
    """Check that the HTTP port is free, or that `headrace serve` answers there."""
    host, port = settings.serve.host, settings.serve.port
    address = format_address(host, port)
    if is_elsewhere:
        return passed("port", f"{address} is not needed: headrace serve is elsewhere")
    if is_served:
        return passed("port", f"{address} is in use by headrace serve")
    if not port:
        return passed("port", f"{host}: any free port, which is printed in the log of headrace serve")
    if problem := find_bind_error(host, port):
        variables = f"{variable_name('serve.host')} and {variable_name('serve.port')}"
        fix = f"stop the process that listens there, or set {variables} to a free address of this machine"
        return failed("port", f"{address} cannot be used ({problem})", fix)
    return passed("port", f"{address} is free")
