"""Shows what a manager does until everything is settled: live lines on a terminal, a line per change elsewhere."""

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

from selfhost.cli import output
from selfhost.control_characters import visible
from selfhost.runtime.control import event_codec
from selfhost.runtime.events import Event, Level
from selfhost.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.table import Table

SETTLED = {"ready", "installed", "fetched", "stopped", "ended"}
UNSAID = {"settled"}  # for programs only
BROKEN = {"failed", "host-fault", "backoff"}


class Show(ABC):
    """How events reach the person or program that waits. A context manager: leaving it leaves the last state shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    @abstractmethod
    def event(self, event: Event) -> None:
        """Show one event."""


class JsonShow(Show):
    """One line of JSON per event, on standard output."""

    def event(self, event: Event) -> None:
        """Print it."""
        output.json_line(event_codec.dump_python(event, mode="json"))


class LineShow(Show):
    """One line per change, and one now and then while something moves."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._moved: dict[str, tuple[str, float]] = {}  # subject → state, and when it was last told

    def event(self, event: Event) -> None:
        """Say it, unless it is progress that was told a moment ago."""
        now = time.monotonic()
        if event.state in UNSAID:
            return
        if event.level is Level.PROGRESS:
            state, told_at = self._moved.get(event.subject, ("", 0.0))
            if state == event.state and now - told_at < output.QUIET_SECONDS:
                return
            self._moved[event.subject] = (event.state, now)
        output.say(f"[{format_duration(now - self._started):>6}] {event.subject}: {_words(event)}")
        for line in failure_lines(event):
            output.say(line)


class LiveShow(Show):
    """One moving line per subject."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._started: dict[str, float] = {}
        self._last: dict[str, Event] = {}
        self._live: Live = Live(
            console=Console(stderr=True), get_renderable=self._render, refresh_per_second=8, transient=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def event(self, event: Event) -> None:
        """Show it in its subject's line; a failure also stays above the lines."""
        if event.state in UNSAID:
            return
        if event.subject not in self._started or self._last[event.subject].state in SETTLED:
            self._started[event.subject] = event.time
        self._last[event.subject] = event
        if event.level is Level.ERROR:  # printed above the lines, where it stays
            for line in (f"{event.subject}: {_words(event)}", *failure_lines(event)):
                self._live.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        lines = Table.grid(padding=(0, 2))
        for subject, event in self._last.items():
            if event.state in SETTLED:
                mark: Spinner | Text = Text("✓", style="green")
                until = event.time
            elif event.state in BROKEN:
                mark, until = Text("✗", style="red"), event.time
            else:
                mark, until = Spinner("dots"), time.time()
            bar = ProgressBar(event.total_bytes, event.done_bytes or 0, width=20) if event.total_bytes else Text("")
            seconds = format_duration(max(0.0, until - self._started[subject]))
            texts = [Text(visible(text)) for text in (subject, event.state, event.cause)]
            lines.add_row(mark, *texts[:2], Text(seconds, justify="right"), texts[2], bar)
        return lines


def make_watch(*, as_json: bool) -> Show:
    """The right way to show what happens once everything is ready: lines, which leave room for what was said."""
    return JsonShow() if as_json else LineShow()


def make_show(*, as_json: bool) -> Show:
    """The right way to show events here."""
    if as_json:
        return JsonShow()
    return LiveShow() if output.is_terminal() else LineShow()


def failure_lines(event: Event) -> list[str]:
    """The engine's own words about a failure, set off from ours, and the next step."""
    words = [f"  | {line}" for line in event.lines]
    return [*words, f"hint: {event.hint}"] if event.hint else words


def _words(event: Event) -> str:
    bytes_moved = f" ({format_bytes(event.done_bytes)})" if event.done_bytes and not event.total_bytes else ""
    return f"{event.state}: {event.cause}{bytes_moved}"
