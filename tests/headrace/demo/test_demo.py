"""The demo computes and shows its statistics, and ends without leaving anything behind."""

import io
import os
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from headrace.demo.demo import _find_free_port
from headrace.demo.samples import DemoHistory, StatusSnapshot, Totals
from headrace.demo.view import LineView, LiveView, format_line, render_live_view, render_summary
from tests.support.processes import HEADRACE, VERBS, free_port


def make_history(samples: int = 30) -> DemoHistory:
    """A history with 100 responses of 10 items and 20 + i clicks in second i."""
    history = DemoHistory("http://127.0.0.1:1", seconds=60.0)
    clicks = 0
    for i in range(1, samples + 1):
        clicks += 20 + i
        totals = Totals(100 * i, 150 * i, 1000 * i, clicks, 10.0 * i, 30.0 * i, 90.0 * i)
        history.add(float(i), totals)
    history.delays = [0.05] * 98 + [0.5, 0.5]
    history.status = StatusSnapshot("000001-000000042", 3, {"log loss": 0.25, "AUC": 0.75})
    return history


def render_text(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_recent_totals_cover_ten_seconds() -> None:
    recent = make_history(30).recent()

    assert recent.responses == 1000
    assert recent.clicks == sum(20 + i for i in range(21, 31))
    assert recent.click_through(recent.popular) == pytest.approx(0.03)


def test_short_history_has_recent_totals() -> None:
    assert make_history(2).per_second(make_history(2).recent().responses) == 100
    assert make_history(0).per_second(make_history(0).recent().responses) == 0


def test_rates_use_the_elapsed_time() -> None:
    history = DemoHistory("", None)
    history.add(4.0, Totals(responses=100))

    assert history.per_second(history.recent().responses) == 25


@pytest.mark.parametrize(("points", "length"), [(40, 30), (10, 10), (1, 1)])
def test_click_through_curve_covers_the_whole_run(points: int, length: int) -> None:
    curve = make_history(30).click_through_curve(points)

    assert len(curve) == length
    assert curve == sorted(curve)
    assert sum(curve) / length == pytest.approx(make_history(30).total().clicks / 30_000)


def test_delay_quantiles_use_the_last_hundred() -> None:
    history = make_history()
    history.delays = [9.0] * 50 + history.delays

    assert history.delay_quantile(0.5) == 0.05
    assert history.delay_quantile(0.99) == pytest.approx(0.5)


def test_every_view_shows_the_same_numbers() -> None:
    history = make_history()
    numbers = ("0.045", "0.030", "p50 50 ms, p99 500 ms", "100 responses/s", "log loss 0.250", "000001-000000042")
    for view in (render_live_view(history), render_summary(history), format_line(history)):
        for number in numbers:
            assert number in render_text(view).replace("\n", "")


def test_live_view_fits_a_terminal() -> None:
    assert len(render_text(render_live_view(make_history())).splitlines()) <= 16


def test_history_without_samples_can_be_shown() -> None:
    assert "not measured yet" in render_text(render_live_view(DemoHistory("", None)))


def print_lines(history: DemoHistory, times: Iterable[float]) -> list[str]:
    """First words of the lines of a run with a sample at each time."""
    console = Console(file=io.StringIO(), width=200)
    with LineView(console) as view:
        view.show_startup("starting", 0.0)
        view.show_startup("starting", 1.0)
        for time in times:
            history.add(time, Totals())
            view.show(history)
    assert isinstance(console.file, io.StringIO)
    return [line.partition("  click-through")[0].strip() for line in console.file.getvalue().splitlines()]


def test_lines_are_printed_every_five_seconds() -> None:
    assert print_lines(DemoHistory("", None), range(12)) == ["starting", "5 s", "10 s"]


def test_slow_samples_are_printed_at_their_time_and_at_the_end() -> None:
    assert print_lines(DemoHistory("", 13.0), [2.5, 5.5, 9.0, 11.6, 13.1]) == ["starting", "6 s", "12 s", "13 s"]


def test_long_startup_mentions_compilation() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with LiveView(console) as view:
        view.show_startup("starting", 9.0)
    assert isinstance(console.file, io.StringIO)

    assert "compiling kernels" in console.file.getvalue()


def test_used_port_is_avoided() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        assert _find_free_port(port) not in (0, port)


class DemoProcess:
    """`headrace demo` with few shoppers and its own folder for temporary files."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        names = ("SERVE__PORT", "STREAM__METRICS_PORT", "LEARN__METRICS_PORT")
        ports = {f"HEADRACE_{name}": str(free_port()) for name in names}
        self.process = subprocess.Popen(
            [*HEADRACE, "demo", "--plain", "--shoppers", "30", "--items", "100", *options],
            env={**os.environ, "TMPDIR": str(folder), **ports, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the output."""
        output, _ = self.process.communicate(timeout=280)
        return self.process.returncode, output

    def children(self) -> list[int]:
        """Ids of running processes that were started with this folder."""
        pids = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words, environ = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in environ and any(verb.encode() in words.split(b"\0") for verb in VERBS):
                pids.append(int(path.name))
        return pids


@pytest.mark.slow
def test_demo_ends_by_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = DemoProcess(tmp_path, "--seconds", "6")
    code, output = demo.wait()

    assert code == 0, output
    assert "best possible" in output
    assert "responses/s" in output
    assert demo.children() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_with_a_summary(tmp_path: Path) -> None:
    demo = DemoProcess(tmp_path)
    assert demo.process.stdout
    for line in demo.process.stdout:
        if "responses/s" in line:
            break
    demo.process.send_signal(signal.SIGINT)
    code, output = demo.wait()

    assert code == 0, output
    assert "most popular" in output
    assert demo.children() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_failed_demo_names_its_log_file(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        demo = DemoProcess(tmp_path, HEADRACE_LEARN__METRICS_PORT=str(listener.getsockname()[1]))
        code, output = demo.wait()
    log = Path(output.strip().rpartition(" ")[2])

    assert code == 1
    assert "learn dies" in output
    assert "metrics port" in log.read_text()
    assert demo.children() == []
