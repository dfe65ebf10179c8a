"""How commands speak: data on standard output, talk on standard error, no colour that carries meaning."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from selfhost.columns import align
from selfhost.errors import SelfhostError

FORMAT_VERSION = 1  # of every --json document; raised when a field changes its meaning or goes away


def say(text: str) -> None:
    """Talk: progress, notes, the next command to type."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """Something the reader should not miss, on standard error."""
    say(f"{click.style('warning:', fg='yellow')} {text}")


def hint(text: str) -> None:
    """The next step, on standard error."""
    say(f"{click.style('hint:', fg='cyan')} {text}")


def error(problem: SelfhostError) -> None:
    """What went wrong and what to do about it, on standard error."""
    say(f"{click.style('error:', fg='red')} {problem.message}")
    if problem.hint:
        hint(problem.hint)


def data(text: str) -> None:
    """Data for people, on standard output."""
    click.echo(text)


def json_document(fields: Mapping[str, Any]) -> None:
    """Data for programs: one JSON document with its `format_version`, on standard output."""
    click.echo(json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=2, ensure_ascii=False))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned columns, two spaces apart, headers in capitals (as `docker ps` prints them)."""
    for line in align([[header.upper() for header in headers], *rows]):
        data(line)
