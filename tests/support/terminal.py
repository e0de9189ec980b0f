"""Run a command on a terminal of a given width."""

import os
import pty
import re
import subprocess
from collections.abc import Mapping, Sequence

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_terminal(
    command: Sequence[str], environ: Mapping[str, str], answer: str = "", columns: int = 80
) -> tuple[int, str]:
    """Exit code and output, without colors; `answer` is typed at once."""
    terminal, device = pty.openpty()
    process = subprocess.Popen(
        command, env={**environ, "COLUMNS": str(columns), "TERM": "xterm"}, stdin=device, stdout=device, stderr=device
    )
    os.close(device)
    os.write(terminal, answer.encode())
    output = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the process closed the terminal
            break
        if not chunk:
            break
        output += chunk
    os.close(terminal)
    return process.wait(timeout=60), _ESCAPES.sub("", output.decode()).replace("\r\n", "\n")
