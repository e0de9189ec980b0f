"""Every file in examples/ runs, and prints what its reader should see."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# OpenBLAS now and then sets the flag of an invalid value for finite input (numpy issue 24067).
WARNINGS = ["-W", "error", "-W", "ignore:invalid value encountered in matmul:RuntimeWarning"]
COFFEE = {"espresso", "filter", "grinder", "milk jug", "kettle"}


def check_bandit_only(output: str) -> None:
    """Each kind of reader gets the headline with the higher click rate."""
    lines = output.splitlines()
    shares = [dict(re.findall(r"(\w+) (\d\.\d\d)[,;]", line)) for line in lines]

    assert [line.partition(":")[0] for line in lines] == ["new reader", "regular"]
    assert [max(share, key=lambda item: float(share[item])) for share in shares] == ["calm", "bold"]
    assert all(re.search(r"propensity [01]\.\d\d$", line) for line in lines)


def check_quickstart(output: str) -> None:
    """One click on coffee brings coffee; exploration takes one position at most."""
    before, after = output.split("newcomer clicks espresso\n")
    items = re.findall(r"^  (.+?) +score", after, re.MULTILINE)

    assert before.startswith("newcomer, by model 000001-")
    assert len(items) == 3
    assert len(COFFEE.intersection(items)) >= 2


CHECKS: dict[str, Callable[[str], None]] = {"bandit_only": check_bandit_only, "quickstart": check_quickstart}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_prints_its_result(path: Path) -> None:
    command = [sys.executable, *WARNINGS, str(path.relative_to(ROOT))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout
    if path.stem in CHECKS:
        CHECKS[path.stem](result.stdout)
