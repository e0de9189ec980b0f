"""Write docs/reference from the code: `python -m tests.support.reference`."""

import re
from pathlib import Path
from typing import Any

import prometheus_client
import typer
from prometheus_client.metrics import MetricWrapperBase

import online_models.metrics
import serving.metrics
import stream.metrics
from headrace import cli
from stream.config import Settings, iter_settings
from tests.support.api_reference import api_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
METRICS = {"stream": stream.metrics, "learn": online_models.metrics, "serve": serving.metrics}
_SUFFIXES: dict[type[MetricWrapperBase], str] = {prometheus_client.Counter: "_total"}


def settings_page() -> str:
    """One table per section: variable, default, description."""
    defaults, sections = Settings(), dict[str, list[str]]()
    for section, name, description in iter_settings():
        default = getattr(getattr(defaults, section), name)
        shown = f"`{default}`" if str(default) else ""
        row = f"| `HEADRACE_{section.upper()}__{name.upper()}` | {shown} | {description} |"
        sections.setdefault(section, []).append(row)
    tables = [
        f"## {section}\n\n| variable | default | description |\n|---|---|---|\n" + "\n".join(rows)
        for section, rows in sections.items()
    ]
    return _SETTINGS_HEAD + "\n\n".join(tables) + "\n"


def metric_names() -> dict[str, tuple[str, MetricWrapperBase]]:
    """Every metric by the name that Prometheus shows, with the process that declares it."""
    return {
        metric._name + _SUFFIXES.get(type(metric), ""): (process, metric)
        for process, module in METRICS.items()
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
    }


def metrics_page(current: str) -> str:
    """One row per metric; the last column, what to do, is written by hand and kept."""
    advice = dict(re.findall(r"^\| `(headrace_\w+)` \|.*\| ([^|]*) \|$", current, re.MULTILINE))
    rows = [
        f"| `{name}` | {process} | {metric._type} | {', '.join(metric._labelnames)} | {metric._documentation} "
        f"| {advice.get(name, '')} |"
        for name, (process, metric) in sorted(metric_names().items())
    ]
    return _METRICS_HEAD + "\n".join(rows) + "\n"


def cli_page() -> str:
    """Every command with its arguments and options."""
    sections = [_command_section(name, command) for name, command in walk_commands()]
    return _CLI_HEAD + "\n\n".join(sections) + "\n"


def walk_commands() -> list[tuple[str, Any]]:
    """Leaf commands by full name, in the order of `headrace --help`."""
    root = typer.main.get_command(cli.app)
    return list(_walk("headrace", root))


def _walk(name: str, command: Any) -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [leaf for verb, child in command.commands.items() for leaf in _walk(f"{name} {verb}", child)]


def _command_section(name: str, command: Any) -> str:
    usage = " ".join(command.collect_usage_pieces(command.context_class(command)))
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        label = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        rows.append(f"| {label} | {getattr(parameter, 'help', None) or ''} |")
    table = "\n\n| option | description |\n|---|---|\n" + "\n".join(rows) if rows else ""
    return f"## {name}\n\n{(command.help or '').strip()}\n\n    {name} {usage}{table}"


_NOTE = "<!-- Generated: python -m tests.support.reference -->\n\n"
_SETTINGS_HEAD = (
    "# Settings\n\nFor everyone who runs Headrace: every setting, its default and its unit.\n\n"
    "Settings stand in `headrace.toml` (section and name, such as `[serve] port = 8000`) or in the environment, which\n"
    "has precedence. An unknown name stops the process with an error that shows the nearest valid name.\n\n" + _NOTE
)
_METRICS_HEAD = (
    "# Metrics\n\nFor people on call: every Prometheus metric, and what to do when it moves.\n\n"
    "`serve` exposes `/metrics` on its port; `stream` and `learn` on their metrics ports (9101 and 9102).\n\n"
    + _NOTE
    + "| metric | process | type | labels | meaning | when it moves |\n|---|---|---|---|---|---|\n"
)
_CLI_HEAD = (
    "# Command line\n\nFor everyone who runs Headrace: every command and option.\n\n"
    "Exit codes: 0 success, 1 failure, 2 wrong usage. Errors go to standard error. `--json` prints one JSON value.\n\n"
    + _NOTE
)


def pages() -> dict[Path, str]:
    """The pages as the code has them now."""
    metrics = FOLDER / "metrics.md"
    return {
        FOLDER / "settings.md": settings_page(),
        metrics: metrics_page(metrics.read_text(encoding="utf-8") if metrics.exists() else ""),
        FOLDER / "cli.md": cli_page(),
        FOLDER / "api.md": api_page(_NOTE),
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
