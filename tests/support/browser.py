"""Drive a headless Chromium over its debugging pipe."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
_START = 'exec "$0" "$@" --remote-debugging-pipe 3<&{commands} 4>&{answers}'


class Browser:
    """One page of a browser inside a `with` block."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM
        command_reader, self._commands = os.pipe()
        answers, answer_writer = os.pipe()
        script = _START.format(commands=command_reader, answers=answer_writer)
        self._process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}"],
            pass_fds=(command_reader, answer_writer),
            stderr=subprocess.DEVNULL,
        )
        os.close(command_reader)
        os.close(answer_writer)
        self._answers = os.fdopen(answers, "rb")
        self._buffer = b""
        self._session = ""
        self._next_id = 0

    def __enter__(self) -> Self:
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._commands)
        self._answers.close()

    def open(self, url: str) -> None:
        self._send("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression in the page; a promise is awaited."""
        result = self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 30) -> Any:
        """Poll an expression until it is true and return its value; an error counts as false."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if value := self.evaluate(f"(() => {{ try {{ return {script} }} catch {{ return null }} }})()"):
                return value
            time.sleep(0.05)
        raise AssertionError(f"not true within {timeout_s} s: {script}\n{self.evaluate('document.body.innerText')}")

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; other messages are events and are dropped."""
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read_message()
            if answer.get("id") == self._next_id:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _read_message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers.fileno(), 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message
