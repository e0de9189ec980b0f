"""What a person at a terminal sees of the demo: a live view, or a line now and then, and a summary at the end."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from headrace.demo.samples import Story, Totals

_EVERY = 5  # samples between lines
_LONG = 6.0  # seconds that a start takes at most when the kernels are compiled
_BAR = 40  # characters of the longest bar, and of the curve
_TICKS = "▁▂▃▄▅▆▇█"
_SLATES = (
    ("best possible", "best", "cyan"),
    ("headrace", "clicks", "bold green"),
    ("most popular", "popular", "yellow"),
    ("random", "random", "red"),
)


class View(Protocol):
    """A context: shows what it is told while inside it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def starting(self, what: str, waited: float) -> None:
        """The shop is not open yet: what is waited for, and for how many seconds it has been."""
        ...

    def show(self, story: Story) -> None:
        """The story has one more sample."""
        ...


class LiveView:
    """A picture that changes in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def starting(self, what: str, waited: float) -> None:
        self._live.update(Spinner("dots", text=f" {what}{_excuse(waited)}  {waited:.0f} s"))

    def show(self, story: Story) -> None:
        self._live.update(picture(story))


class LineView:
    """Lines, for terminals that are none."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def starting(self, what: str, waited: float) -> None:
        if (text := what + _excuse(waited)) != self._said:
            self._console.print(text, highlight=False)
            self._said = text

    def show(self, story: Story) -> None:
        if (len(story.samples) - 1) % _EVERY == 0:
            self._console.print(line(story), highlight=False, soft_wrap=True)


def _excuse(waited: float) -> str:
    return ", compiling kernels (the first time only)" if waited > _LONG else ""


def line(story: Story) -> str:
    now = story.now()
    return "  ".join(
        [
            f"{story.elapsed:5.0f} s",
            f"click-through {now.click_through(now.clicks):.3f}"
            f" (random {now.click_through(now.random):.3f}, popular {now.click_through(now.popular):.3f},"
            f" best {now.click_through(now.best):.3f})",
            f"{story.per_second(now.answers):.0f} answers/s",
            f"{story.per_second(now.events):.0f} events/s",
            f"click → changed answer {_delays(story)}",
            *(f"{name} {value:.3f}" for name, value in story.glance.measures.items()),
            f"version {story.glance.version}",
        ]
    )


def picture(story: Story) -> RenderableType:
    """The live view, some fifteen lines."""
    now = story.now()
    facts = Table.grid(padding=(0, 2))
    facts.add_row("[dim]traffic", _traffic(story))
    facts.add_row("[dim]click → changed answer", _delays(story))
    facts.add_row("[dim]predictions before learning", _measures(story))
    facts.add_row(
        "[dim]model version", f"{story.glance.version}  [dim]{story.glance.waiting} events on their way into it"
    )
    length = f"{story.elapsed:.0f} s" + (f" of {story.seconds:.0f}" if story.seconds else "")
    return Panel(
        Group(_bars(now), Text(), _curve(story), Text(), facts),
        title=f"[bold]headrace demo[/]  {length}",
        subtitle=f"console [link={story.url}]{story.url}[/link]   Ctrl-C ends",
        width=96,
        padding=(1, 2),
    )


def summary(story: Story) -> RenderableType:
    """The whole run against its last seconds."""
    whole, now = story.whole(), story.now()
    table = Table(title=f"{story.elapsed:.0f} s, {whole.answers} answers, {whole.events} events", title_justify="left")
    table.add_column("click-through of")
    table.add_column("whole run", justify="right")
    table.add_column("last 10 s", justify="right")
    table.add_column("last 10 s against most popular", justify="right")
    for name, column, style in _SLATES:
        rates = [part.click_through(getattr(part, column)) for part in (whole, now)]
        times = rates[1] / now.click_through(now.popular) if now.popular else 0.0
        table.add_row(name, f"{rates[0]:.3f}", f"{rates[1]:.3f}", f"{times:.1f} ×", style=style)
    delays = f"click → changed answer {_delays(story)}"
    notes = f"{_traffic(story)}; {delays}; {_measures(story)}; version {story.glance.version}"
    failed = f"\n{whole.failures} requests failed" if whole.failures else ""
    return Group(table, Text(notes + failed, style="dim"))


def _bars(now: Totals) -> Table:
    """Click-through of the last seconds beside what other slates would have earned on the same requests."""
    grid = Table.grid(padding=(0, 2))
    longest = max(now.best, now.clicks, 1e-9)
    for name, column, style in _SLATES:
        earned = getattr(now, column)
        bar = Text("█" * round(_BAR * earned / longest), style=style)
        grid.add_row(Text(name, style=style), f"{now.click_through(earned):.3f}", bar)
    return grid


def _curve(story: Story) -> Text:
    values = story.curve(_BAR)
    top = max([*values, 1e-9])
    ticks = "".join(_TICKS[min(len(_TICKS) - 1, int(value / top * len(_TICKS)))] for value in values)
    return Text.assemble(("click-through since the start  ", "dim"), (ticks, "green"))


def _traffic(story: Story) -> str:
    now = story.now()
    return f"{story.per_second(now.answers):.0f} answers/s, {story.per_second(now.events):.0f} events/s"


def _delays(story: Story) -> str:
    half, most = story.delay(0.5), story.delay(0.99)
    return "not measured yet" if half is None or most is None else f"p50 {half * 1000:.0f} ms, p99 {most * 1000:.0f} ms"


def _measures(story: Story) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in story.glance.measures.items()) or "not measured yet"
