"""Terminal output of the demo: a live view or plain lines, and a summary at the end."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from headrace.demo.samples import DemoHistory, Totals

_SECONDS_PER_LINE = 5.0
_COMPILE_HINT_AFTER_S = 6.0  # a longer start means that the kernels are being compiled
_BAR_WIDTH = 40  # characters of the longest bar and of the curve
_TICKS = "▁▂▃▄▅▆▇█"
_SLATE_ROWS = (
    ("best possible", "best", "cyan"),
    ("headrace", "clicks", "bold green"),
    ("most popular", "popular", "yellow"),
    ("random", "random", "red"),
)


class View(Protocol):
    """Show the demo inside a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show_startup(self, step: str, elapsed: float) -> None:
        """Show the current startup step and the seconds that it has taken so far."""
        ...

    def show(self, history: DemoHistory) -> None:
        """Show the history after a new sample."""
        ...


class LiveView:
    """A view that updates in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show_startup(self, step: str, elapsed: float) -> None:
        self._live.update(Spinner("dots", text=f" {step}{_compile_hint(elapsed)}  {elapsed:.0f} s"))

    def show(self, history: DemoHistory) -> None:
        self._live.update(render_live_view(history))


class LineView:
    """Plain lines, for output that is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_line = ""
        self._next_line_s = _SECONDS_PER_LINE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show_startup(self, step: str, elapsed: float) -> None:
        if (text := step + _compile_hint(elapsed)) != self._last_line:
            self._console.print(text, highlight=False)
            self._last_line = text

    def show(self, history: DemoHistory) -> None:
        if history.elapsed >= self._next_line_s or history.is_complete:
            self._next_line_s = (history.elapsed // _SECONDS_PER_LINE + 1) * _SECONDS_PER_LINE
            self._console.print(format_line(history), highlight=False, soft_wrap=True)


def _compile_hint(elapsed: float) -> str:
    return ", compiling kernels (first run only)" if elapsed > _COMPILE_HINT_AFTER_S else ""


def format_line(history: DemoHistory) -> str:
    recent = history.recent()
    return "  ".join(
        [
            f"{history.elapsed:5.0f} s",
            f"click-through {recent.click_through(recent.clicks):.3f}"
            f" (random {recent.click_through(recent.random):.3f}, popular {recent.click_through(recent.popular):.3f},"
            f" best {recent.click_through(recent.best):.3f})",
            f"{history.per_second(recent.responses):.0f} responses/s",
            f"{history.per_second(recent.events):.0f} events/s",
            f"click → changed response {_format_delays(history)}",
            *(f"{name} {value:.3f}" for name, value in history.status.metrics.items()),
            f"version {history.status.version}",
        ]
    )


def render_live_view(history: DemoHistory) -> RenderableType:
    """Build the live view, about fifteen lines."""
    recent = history.recent()
    facts = Table.grid(padding=(0, 2))
    facts.add_row("[dim]traffic", _format_traffic(history))
    facts.add_row("[dim]click → changed response", _format_delays(history))
    facts.add_row("[dim]predictions before training", _format_metrics(history))
    status = history.status
    facts.add_row("[dim]model version", f"{status.version}  [dim]{status.lag_events} events not yet included")
    duration = f"{history.elapsed:.0f} s" + (f" of {history.seconds:.0f}" if history.seconds else "")
    return Panel(
        Group(_render_bars(recent), Text(), _render_curve(history), Text(), facts),
        title=f"[bold]headrace demo[/]  {duration}",
        subtitle=f"console [link={history.url}]{history.url}[/link]   Ctrl-C to stop",
        width=96,
        padding=(1, 2),
    )


def render_summary(history: DemoHistory) -> RenderableType:
    """Compare the whole run with its last ten seconds."""
    total, recent = history.total(), history.recent()
    title = f"{history.elapsed:.0f} s, {total.responses} responses, {total.events} events"
    table = Table(title=title, title_justify="left")
    table.add_column("click-through rate")
    for column in ("whole run", "last 10 s", "last 10 s vs. most popular"):
        table.add_column(column, justify="right")
    for name, column, style in _SLATE_ROWS:
        rates = [part.click_through(getattr(part, column)) for part in (total, recent)]
        ratio = rates[1] / recent.click_through(recent.popular) if recent.popular else 0.0
        table.add_row(name, f"{rates[0]:.3f}", f"{rates[1]:.3f}", f"{ratio:.1f} ×", style=style)
    delays = f"click → changed response {_format_delays(history)}"
    notes = f"{_format_traffic(history)}; {delays}; {_format_metrics(history)}; version {history.status.version}"
    failures = f"\n{total.failures} requests failed" if total.failures else ""
    return Group(table, Text(notes + failures, style="dim"))


def _render_bars(recent: Totals) -> Table:
    """Draw the recent click-through rate beside the expected rates of other slates."""
    grid = Table.grid(padding=(0, 2))
    max_clicks = max(recent.best, recent.clicks, 1e-9)
    for name, column, style in _SLATE_ROWS:
        clicks = getattr(recent, column)
        bar = Text("█" * round(_BAR_WIDTH * clicks / max_clicks), style=style)
        grid.add_row(Text(name, style=style), f"{recent.click_through(clicks):.3f}", bar)
    return grid


def _render_curve(history: DemoHistory) -> Text:
    values = history.click_through_curve(_BAR_WIDTH)
    max_value = max([*values, 1e-9])
    ticks = "".join(_TICKS[min(len(_TICKS) - 1, int(value / max_value * len(_TICKS)))] for value in values)
    return Text.assemble(("click-through rate since the start  ", "dim"), (ticks, "green"))


def _format_traffic(history: DemoHistory) -> str:
    recent = history.recent()
    return f"{history.per_second(recent.responses):.0f} responses/s, {history.per_second(recent.events):.0f} events/s"


def _format_delays(history: DemoHistory) -> str:
    p50, p99 = history.delay_quantile(0.5), history.delay_quantile(0.99)
    return "not measured yet" if p50 is None or p99 is None else f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"


def _format_metrics(history: DemoHistory) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in history.status.metrics.items()) or "not measured yet"
