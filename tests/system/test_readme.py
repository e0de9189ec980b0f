"""The README's first requests return what the README prints."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.support.processes import RunningSystem

README = Path(__file__).parents[2] / "README.md"
VARYING = {"impression_id": str, "model_version": str, "score": float}  # differ from run to run


def parse_session(text: str) -> list[tuple[str, str]]:
    """Commands of the console block, each with the output that is printed below it."""
    block = re.search(r"<!-- requests -->\n```console\n(.*?)```", text, re.DOTALL)
    assert block
    session = []
    for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
        lines = part.rstrip("\n").split("\n")
        n_command = next((i for i in range(1, len(lines)) if not lines[i].startswith("  ")), len(lines))
        session.append(("\n".join(lines[:n_command]), "\n".join(lines[n_command:])))
    return session


def without_varying(value: Any) -> Any:
    """The value with the type instead of what differs from run to run."""
    if isinstance(value, dict):
        for key, kind in VARYING.items():
            assert key not in value or isinstance(value[key], kind)
        return {key: None if key in VARYING else without_varying(inner) for key, inner in value.items()}
    return [without_varying(inner) for inner in value] if isinstance(value, list) else value


def test_readme_requests_return_what_is_printed(tmp_path: Path) -> None:
    session = parse_session(README.read_text())

    with RunningSystem(tmp_path / "data") as system:
        for command, expected in session:
            script = command.replace("localhost:8000", f"127.0.0.1:{system.port}")
            output = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout

            assert without_varying(json.loads(output)) == without_varying(json.loads(expected))

    assert len(session) == 3
    assert not any("sleep" in command for command, _ in session)
