"""`headrace check`: find problems of an installation and print how to fix them."""

from collections.abc import Mapping
from pathlib import Path

from headrace.diagnostics.output import print_results
from headrace.diagnostics.results import failed
from headrace.diagnostics.runner import Runner
from headrace.diagnostics.suite import run_suite
from stream.clock import SystemClock
from stream.config import SettingsError, load


def run_checks(config: Path | None, as_json: bool, addresses: Mapping[str, str] | None = None) -> int:
    """Print every check. Exit code 0: all passed; 1: a check failed; 2: invalid settings.

    `addresses`: HOST:PORT of processes that are not on this machine.
    """
    try:
        settings = load(config)
    except SettingsError as error:
        print_results([failed("settings", str(error), "correct or remove this setting")], as_json)
        return 2
    results = list(run_suite(settings, addresses or {}, SystemClock(), Runner()))
    print_results(results, as_json)
    return 0 if all(result.ok for result in results) else 1
