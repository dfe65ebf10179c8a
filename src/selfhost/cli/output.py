"""How commands speak: data on standard output, talk on standard error, no colour that carries meaning.

Text may come from strangers (a model's files, an engine's log), so no control character of it reaches the terminal.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import click

from selfhost.columns import align
from selfhost.control_characters import visible
from selfhost.errors import SelfhostError
from selfhost.progress import Progress

if TYPE_CHECKING:
    from rich.status import Status

QUIET_SECONDS = 5.0  # between two lines about the same phase where nothing can move
FORMAT_VERSION = 1  # of every --json document; raised when a field changes its meaning or goes away


def say(text: str) -> None:
    """Talk: progress, notes, the next command to type. When nobody can hear it, the work goes on."""
    _talk(visible(text))


def warn(text: str) -> None:
    """Something the reader should not miss, on standard error."""
    _say_labelled("warning:", "yellow", text)


def hint(text: str) -> None:
    """The next step, on standard error."""
    _say_labelled("hint:", "cyan", text)


def error(problem: SelfhostError) -> None:
    """What went wrong and what to do about it, on standard error."""
    _say_labelled("error:", "red", problem.message)
    if problem.hint:
        hint(problem.hint)


def data(text: str) -> None:
    """Data for people, on standard output."""
    _write(text)


def labelled(label: str, colour: str, text: str) -> None:
    """Data for people, on standard output, that begins with a coloured word."""
    _write_line(f"{click.style(label, fg=colour)}{visible(text)}")


def secret(text: str) -> None:
    """What cannot be told a second time, on standard output; raises `SelfhostError` unless all of it got out."""
    if sys.stdout is None:
        raise SelfhostError("standard output is closed", hint="let it go to a terminal, a file or a pipe")
    try:
        data(text)
    except BrokenPipeError as error:
        drop_standard_output()
        raise _unwritten(error) from error


def json_document(fields: Mapping[str, Any]) -> None:
    """Data for programs: one JSON document with its `format_version`, on standard output."""
    _write(json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=2, ensure_ascii=False))


def json_line(fields: Mapping[str, Any]) -> None:
    """Data for programs as it comes: one line of JSON with its `format_version`, on standard output."""
    _write(json.dumps({"format_version": FORMAT_VERSION, **fields}, ensure_ascii=False))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned columns, two spaces apart, headers in capitals (as `docker ps` prints them)."""
    for line in align([[header.upper() for header in headers], *rows]):
        data(line)


class ProgressLine:
    """The progress of one piece of work on standard error: a moving line on a terminal, a line now and then elsewhere.

    With `as_json`, every step is a line of JSON on standard output instead.
    """

    def __init__(self, subject: str, *, as_json: bool = False) -> None:
        self._subject = subject
        self._as_json = as_json
        self._live: Status | None = None
        self._phase, self._told_at = "", 0.0

    def __enter__(self) -> Self:
        if is_terminal() and not self._as_json:
            from rich.console import Console
            from rich.markup import escape
            from rich.status import Status

            self._live = Status(escape(visible(self._subject)), console=Console(stderr=True))
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def report(self, progress: Progress) -> None:
        """Show one step."""
        text = f"{self._subject}: {progress.phase}: {progress.message}"
        if self._as_json:
            json_line(asdict(progress))
        elif self._live:
            from rich.markup import escape

            self._live.update(escape(visible(text)))
        elif progress.phase != self._phase or time.monotonic() - self._told_at > QUIET_SECONDS:
            self._phase, self._told_at = progress.phase, time.monotonic()
            say(text)


def drop_standard_output() -> None:
    """Let what is still in its buffer go nowhere: Python would fail once more at its end, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal() -> bool:
    """Whether a person watches standard error on something that can move a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _say_labelled(label: str, colour: str, text: str) -> None:
    _talk(f"{click.style(label, fg=colour)} {visible(text)}")


def _talk(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def _write(text: str) -> None:
    _write_line(visible(text))


def _write_line(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:  # the boundary knows: the reader has seen enough
        raise
    except OSError as error:
        drop_standard_output()
        raise _unwritten(error) from error


def _unwritten(error: OSError) -> SelfhostError:
    return SelfhostError(
        f"cannot write to standard output: {error.strerror}", hint="is its disk full, its reader gone?"
    )
