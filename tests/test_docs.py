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
from stream.config import Settings, names

README = Path(__file__).parent.parent / "README.md"
GUARD = README.parent / "docs" / "guard.md"
METRICS = (stream.metrics, online_models.metrics, serving.metrics)


def settings_table() -> str:
    """One line per setting: its variable, default and purpose."""
    defaults = Settings()
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for section, name, purpose in names():
        default = getattr(getattr(defaults, section), name)
        lines.append(
            f"| `HEADRACE_{section.upper()}__{name.upper()}` | `{default}` | {purpose} |".replace("| `` |", "| |")
        )
    return "\n".join(lines)


def metric_names() -> list[str]:
    """Every metric as Prometheus shows it."""
    found = []
    for module in METRICS:
        for value in vars(module).values():
            if isinstance(value, prometheus_client.metrics.MetricWrapperBase):
                suffix = "_total" if isinstance(value, prometheus_client.Counter) else ""
                found.append(value._name + suffix)
    return sorted(found)


def commands() -> list[str]:
    """Every verb with its subverbs."""
    found = [command.callback.__name__ for command in cli.app.registered_commands if command.callback]
    for group in cli.app.registered_groups:
        assert group.typer_instance
        found += [f"{group.name} {command.name}" for command in group.typer_instance.registered_commands]
    return found


def test_readme_lists_every_setting_with_its_default() -> None:
    assert settings_table() in README.read_text()


@pytest.mark.parametrize("name", metric_names())
def test_readme_lists_every_metric(name: str) -> None:
    assert f"`{name}`" in README.read_text()


@pytest.mark.parametrize("command", commands())
def test_documents_name_every_command(command: str) -> None:
    texts = "\n".join(path.read_text() for path in (README, *README.parent.glob("docs/*.md")))

    assert f"headrace {command}" in texts


@pytest.mark.parametrize("detector", sorted(set().union(*DETECTORS.values())))
def test_the_guards_page_says_of_every_detector_when_it_fires(detector: str) -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", GUARD.read_text(), re.MULTILINE)

    assert f"`{detector}`" in ", ".join(rows)


def test_false_alarms_are_counted_of_every_detector_that_a_scenario_names() -> None:
    named = set().union(*(scenario.detectors for scenario in SCENARIOS))

    assert named <= set().union(*DETECTORS.values())


def test_readme_names_no_metric_that_is_not_there() -> None:
    named = re.findall(r"`(headrace_[a-z_]+)`", README.read_text())

    assert set(named) <= set(metric_names())


if __name__ == "__main__":
    text = README.read_text()
    between = re.compile(r"(<!-- settings -->\n).*(<!-- /settings -->)", re.DOTALL)
    README.write_text(between.sub(lambda found: f"{found[1]}{settings_table()}\n{found[2]}", text))
