"""`selfhost engine`: install, list and remove the environments that engines run from."""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click

from selfhost import versions
from selfhost.cli import options, output
from selfhost.cli.linux import require_linux
from selfhost.control_characters import visible
from selfhost.engines import environment
from selfhost.engines.environment import EngineEnvironment
from selfhost.errors import SelfhostError
from selfhost.progress import Progress, Report
from selfhost.units import format_bytes

PLATFORM = "cpu"


@click.group(
    epilog=options.examples(
        "selfhost engine install", "selfhost engine list", f"selfhost engine remove {versions.DEFAULT}"
    )
)
def engine() -> None:
    """Install, list and remove engine environments."""


@engine.command(
    epilog=options.examples(
        "selfhost engine install",
        f"selfhost engine install --vllm {versions.DEFAULT} --json | jq .message",
    )
)
@click.option("--vllm", "version", default=versions.DEFAULT, show_default=True, help="The release of vLLM.")
@click.option("--no-compiler", is_flag=True, help="Do without g++: every engine runs with --enforce-eager.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as lines of JSON.")
def install(*, version: str, no_compiler: bool, as_json: bool) -> None:
    """Install vLLM into an environment of its own, or say that it is there."""
    from selfhost.engines import build

    require_linux()
    there = environment.find_built(version, PLATFORM)
    with _ends_cleanly(), _telling(as_json=as_json) as report:
        found = there or build.build(version, PLATFORM, report, needs_compiler=not no_compiler)
    if as_json:
        output.json_line(_fields(found))
        return
    output.say(f"vLLM {found.vllm_version} ({found.platform}) is {'already there' if there else 'installed'}:")
    output.say(f"  {format_bytes(found.size_bytes or 0)} in {found.directory}")
    output.say(f"  from {found.origin}")
    output.hint("selfhost up")


@engine.command("list", epilog=options.examples("selfhost engine list", "selfhost engine list --json"))
@options.as_json
def list_(*, as_json: bool) -> None:
    """List the environments that selfhost installed."""
    from datetime import datetime

    found = environment.installed()
    if as_json:
        output.json_document({"engines": [_fields(each) for each in found]})
        return
    if not found:
        output.say("no engine environment is installed")
        output.hint("selfhost engine install")
        return
    rows = [
        (
            each.vllm_version,
            each.platform,
            format_bytes(each.size_bytes or 0),
            datetime.fromtimestamp(each.built or 0).astimezone().strftime("%Y-%m-%d %H:%M"),
            str(each.directory),
            each.origin,
        )
        for each in found
    ]
    output.table(("vllm", "platform", "size", "built", "path", "origin"), rows)


@engine.command(epilog=options.examples(f"selfhost engine remove {versions.DEFAULT}", "selfhost engine remove --all"))
@click.argument("version", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Every environment, what interrupted builds left, and all downloads."
)
def remove(*, version: str | None, everything: bool) -> None:
    """Remove an environment, unless something runs from it."""
    from selfhost.engines import removal

    if (version is None) != everything:
        raise click.UsageError("name one version, or say --all")
    existing = [path for path in environment.directories() if everything or path.name.startswith(f"vllm-{version}-")]
    if not existing and not (everything and environment.download_cache().exists()):
        raise SelfhostError(
            "no engine environment is installed" if everything else f"vLLM {version} is not installed",
            hint="selfhost engine list",
        )
    linked = 0
    for path in existing:
        output.say(f"removing {path.name}")
        removed = removal.remove(path)
        linked += removed.linked_bytes
        output.say(f"  {format_bytes(removed.freed_bytes)} freed")
    if everything:
        output.say("removing what was downloaded")
        output.say(f"  {format_bytes(removal.remove_downloads())} freed")
    elif linked:
        output.say(f"  {format_bytes(linked)} of downloads are kept: the next install starts from them")
        if environment.download_cache().exists():
            output.hint("selfhost engine remove --all frees them too")


def _fields(found: EngineEnvironment) -> dict[str, Any]:
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(found).items()}
    return {**texts, "directory": str(found.directory)}


@contextmanager
def _telling(*, as_json: bool) -> Iterator[Report]:
    """A report as lines of JSON; or for people, a line per step and per tenth of the bytes, on a terminal in place."""
    live = sys.stderr.isatty()
    clear = "\r\033[K" if live else ""
    tenths = 0

    def tell(progress: Progress) -> None:
        nonlocal tenths
        if progress.done_bytes is None or not progress.total_bytes:
            click.echo(f"{clear}{progress.phase}: {visible(progress.message)}", err=True)
            return
        reached = 10 * progress.done_bytes // progress.total_bytes
        if live or reached > tenths:
            amount = f"{format_bytes(progress.done_bytes)} of about {format_bytes(progress.total_bytes)}"
            line = f"{clear}  {amount}, {visible(progress.message)}"
            click.echo(line[: shutil.get_terminal_size().columns] if live else line, err=True, nl=not live)
            tenths = reached

    def print_json(progress: Progress) -> None:
        output.data(progress.to_json())

    try:
        yield print_json if as_json else tell
    finally:
        if not as_json:
            click.echo(clear, err=True, nl=False)


@contextmanager
def _ends_cleanly() -> Iterator[None]:
    """Let SIGTERM and a lost terminal end the build as Ctrl-C does: with what it wrote removed."""

    def stop(number: int, frame: object) -> NoReturn:
        del frame
        raise SelfhostError(f"stopped by {signal.Signals(number).name}; nothing unfinished was left behind")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
