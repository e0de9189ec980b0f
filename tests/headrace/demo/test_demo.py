"""The demo: what it counts and shows, and that it ends as it should and leaves nothing behind."""

import io
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from headrace.demo.demo import _find_free_port
from headrace.demo.samples import DemoHistory, StatusSnapshot, Totals
from headrace.demo.view import LineView, LiveView, format_line, render_live_view, render_summary
from tests.support.processes import HEADRACE, VERBS, free_port


def a_story(samples: int = 30) -> DemoHistory:
    """100 answers of 10 places and 20 + i clicks in second i."""
    story = DemoHistory("http://127.0.0.1:1", seconds=60.0)
    clicks = 0
    for i in range(1, samples + 1):
        clicks += 20 + i
        told = Totals(100 * i, 150 * i, 1000 * i, clicks, 10.0 * i, 30.0 * i, 90.0 * i)
        story.add(float(i), told)
    story.delays = [0.05] * 98 + [0.5, 0.5]
    story.status = StatusSnapshot("000001-000000042", 3, {"log loss": 0.25, "AUC": 0.75})
    return story


def text_of(shown: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_now_is_the_last_ten_seconds() -> None:
    now = a_story(30).recent()

    assert now.responses == 1000
    assert now.clicks == sum(20 + i for i in range(21, 31))
    assert now.click_through(now.popular) == pytest.approx(0.03)


def test_a_young_story_has_a_now_too() -> None:
    assert a_story(2).per_second(a_story(2).recent().responses) == 100
    assert a_story(0).per_second(a_story(0).recent().responses) == 0


def test_rates_go_by_the_time_that_passed() -> None:
    story = DemoHistory("", None)
    story.add(4.0, Totals(responses=100))

    assert story.per_second(story.recent().responses) == 25


@pytest.mark.parametrize(("points", "length"), [(40, 30), (10, 10), (1, 1)])
def test_the_curve_covers_the_whole_run(points: int, length: int) -> None:
    curve = a_story(30).click_through_curve(points)

    assert len(curve) == length
    assert curve == sorted(curve)
    assert sum(curve) / length == pytest.approx(a_story(30).total().clicks / 30_000)


def test_a_delay_is_of_the_last_hundred() -> None:
    story = a_story()
    story.delays = [9.0] * 50 + story.delays

    assert story.delay_quantile(0.5) == 0.05
    assert story.delay_quantile(0.99) == pytest.approx(0.5)


def test_every_view_tells_the_same_numbers() -> None:
    story = a_story()
    numbers = ("0.045", "0.030", "p50 50 ms, p99 500 ms", "100 answers/s", "log loss 0.250", "000001-000000042")
    for shown in (render_live_view(story), render_summary(story), format_line(story)):
        for number in numbers:
            assert number in text_of(shown).replace("\n", "")


def test_the_picture_fits_a_terminal() -> None:
    assert len(text_of(render_live_view(a_story())).splitlines()) <= 16


def test_a_story_without_samples_can_be_shown() -> None:
    assert "not measured yet" in text_of(render_live_view(DemoHistory("", None)))


def test_lines_come_every_five_samples() -> None:
    console = Console(file=io.StringIO(), width=200)
    story = DemoHistory("", None)
    with LineView(console) as view:
        view.show_startup("starting", 0.0)
        view.show_startup("starting", 1.0)
        for i in range(12):
            story.add(float(i), Totals())
            view.show(story)
    assert isinstance(console.file, io.StringIO)

    assert len(console.file.getvalue().splitlines()) == 3


def test_a_long_start_is_explained() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with LiveView(console) as view:
        view.show_startup("starting", 9.0)
    assert isinstance(console.file, io.StringIO)

    assert "compiling kernels" in console.file.getvalue()


def test_a_port_that_is_taken_is_not_used() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert _find_free_port(port) not in (0, port)


class Demo:
    """`headrace demo` with a few shoppers, in a folder for temporary files of its own."""

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

    def end(self) -> tuple[int, str]:
        """Exit code and output."""
        output, _ = self.process.communicate(timeout=280)
        return self.process.returncode, output

    def children(self) -> list[int]:
        """Processes that were started with this folder and are there still."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words, environ = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in environ and any(verb.encode() in words.split(b"\0") for verb in VERBS):
                found.append(int(path.name))
        return found


@pytest.mark.slow
def test_the_demo_ends_by_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--seconds", "6")
    code, output = demo.end()

    assert code == 0, output
    assert "best possible" in output
    assert "answers/s" in output
    assert demo.children() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_with_its_summary(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    assert demo.process.stdout
    for told in demo.process.stdout:
        if "answers/s" in told:
            break
    demo.process.send_signal(signal.SIGINT)
    code, output = demo.end()

    assert code == 0, output
    assert "most popular" in output
    assert demo.children() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_demo_that_cannot_run_says_where_to_read_why(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        demo = Demo(tmp_path, HEADRACE_LEARN__METRICS_PORT=str(taken.getsockname()[1]))
        code, output = demo.end()
    log = Path(output.strip().rpartition(" ")[2])

    assert code == 1
    assert "learn dies each time it is started" in output
    assert "metrics port" in log.read_text()
    assert demo.children() == []
