"""What the README lists is what there is; `python -m tests.test_docs` writes the settings table anew."""

import re
from pathlib import Path

import prometheus_client
import pytest

import online_models.metrics
import serving.metrics
import stream.metrics
from benchmarks.guard.false_alarms import DETECTORS
from headrace import cli
from replay.simulation.scenarios import SCENARIOS
from stream.config import Settings, iter_settings

README = Path(__file__).parent.parent / "README.md"
GUARD = README.parent / "docs" / "guard.md"
METRICS = (stream.metrics, online_models.metrics, serving.metrics)


def build_settings_table() -> str:
    """One line per setting: its variable, default and purpose."""
    defaults = Settings()
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for section, name, purpose in iter_settings():
        default = getattr(getattr(defaults, section), name)
        lines.append(
            f"| `HEADRACE_{section.upper()}__{name.upper()}` | `{default}` | {purpose} |".replace("| `` |", "| |")
        )
    return "\n".join(lines)


def list_metric_names() -> list[str]:
    """Every metric as Prometheus shows it."""
    metrics = []
    for module in METRICS:
        for value in vars(module).values():
            if isinstance(value, prometheus_client.metrics.MetricWrapperBase):
                suffix = "_total" if isinstance(value, prometheus_client.Counter) else ""
                metrics.append(value._name + suffix)
    return sorted(metrics)


def list_commands() -> list[str]:
    """Every verb with its subverbs."""
    verbs = [command.callback.__name__ for command in cli.app.registered_commands if command.callback]
    for group in cli.app.registered_groups:
        assert group.typer_instance
        verbs += [f"{group.name} {command.name}" for command in group.typer_instance.registered_commands]
    return verbs


def test_readme_lists_every_setting_with_its_default() -> None:
    assert build_settings_table() in README.read_text()


@pytest.mark.parametrize("name", list_metric_names())
def test_readme_lists_every_metric(name: str) -> None:
    assert f"`{name}`" in README.read_text()


@pytest.mark.parametrize("command", list_commands())
def test_docs_list_every_command(command: str) -> None:
    texts = "\n".join(path.read_text() for path in (README, *README.parent.glob("docs/*.md")))

    assert f"headrace {command}" in texts


@pytest.mark.parametrize("detector", sorted(set().union(*DETECTORS.values())))
def test_guard_page_documents_every_detector(detector: str) -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", GUARD.read_text(), re.MULTILINE)

    assert f"`{detector}`" in ", ".join(rows)


def test_false_alarm_benchmark_covers_scenario_detectors() -> None:
    scenario_detectors = set().union(*(scenario.detectors for scenario in SCENARIOS))

    assert scenario_detectors <= set().union(*DETECTORS.values())


def test_readme_lists_only_existing_metrics() -> None:
    documented = re.findall(r"`(headrace_[a-z_]+)`", README.read_text())

    assert set(documented) <= set(list_metric_names())


if __name__ == "__main__":
    text = README.read_text()
    settings_block = re.compile(r"(<!-- settings -->\n).*(<!-- /settings -->)", re.DOTALL)
    README.write_text(settings_block.sub(lambda match: f"{match[1]}{build_settings_table()}\n{match[2]}", text))
