"""`selfhost engine`: install, download, list and remove the environments that engines run from."""

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
from selfhost.errors import BlockedError, SelfhostError
from selfhost.planner.plan import Variant
from selfhost.progress import Progress, Report
from selfhost.units import format_bytes

AUTO = "auto"
VARIANTS = tuple(each.value for each in Variant)  # click shows the names of an enumeration's members

_vllm = click.option("--vllm", "version", default=versions.DEFAULT, show_default=True, help="The release of vLLM.")
_variant = click.option(
    "--variant",
    type=click.Choice((AUTO, *VARIANTS)),
    default=AUTO,
    show_default=True,
    help="The build: for CPUs, CUDA 12.9 or CUDA 13.0; auto is what driver and GPUs of this machine ask for.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print progress and result as lines of JSON.")


@click.group(
    epilog=options.examples(
        "selfhost engine install", "selfhost engine list", f"selfhost engine remove {versions.DEFAULT}"
    )
)
def engine() -> None:
    """Install, download, list and remove engine environments."""


@engine.command(
    epilog=options.examples(
        "selfhost engine install",
        "selfhost engine install --wheelhouse /mnt/wheels",
        f"selfhost engine install --vllm {versions.DEFAULT} --json | jq .message",
    )
)
@_vllm
@_variant
@click.option(
    "--wheelhouse",
    type=click.Path(file_okay=False, path_type=Path),
    help="Install from this folder alone, which `selfhost engine download` filled; no network is used.",
)
@click.option(
    "--packages",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Install exactly this list, the packages.txt of another environment.",
)
@click.option("--no-compiler", is_flag=True, help="For CPUs, do without g++: every engine runs with --enforce-eager.")
@_json
def install(
    *, version: str, variant: str, wheelhouse: Path | None, packages: Path | None, no_compiler: bool, as_json: bool
) -> None:
    """Install vLLM into an environment of its own, or say that it is there."""
    from selfhost.engines import build

    require_linux()
    if wheelhouse and packages:
        raise click.UsageError("a wheelhouse brings its own list: name one of --wheelhouse and --packages")
    chosen = _choose(version, variant)
    there = environment.find_built(version, chosen)
    with _ends_cleanly(), _telling(as_json=as_json) as report:
        found = there or build.build(
            version, chosen, report, needs_compiler=not no_compiler, packages=packages, wheelhouse=wheelhouse
        )
    if as_json:
        output.json_line(_fields(found))
        return
    output.say(f"vLLM {found.vllm_version} ({found.variant}) is {'already there' if there else 'installed'}:")
    output.say(f"  {format_bytes(found.size_bytes or 0)} in {found.directory}")
    output.say(f"  from {found.origin}")
    output.hint("selfhost up")


@engine.command(
    epilog=options.examples(
        "selfhost engine download /mnt/wheels --variant cu130", "selfhost engine install --wheelhouse /mnt/wheels"
    )
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_vllm
@_variant
@_json
def download(*, folder: Path, version: str, variant: str, as_json: bool) -> None:
    """Download vLLM and all that it needs into FOLDER, for machines like this one without a network."""
    from selfhost.engines import wheelhouse

    chosen = _choose(version, variant)
    with _ends_cleanly(), _telling(as_json=as_json) as report:
        size = wheelhouse.download(folder, version, chosen, report)
    if as_json:
        output.json_line({"folder": str(folder), "vllm_version": version, "variant": chosen, "size_bytes": size})
        return
    output.say(f"vLLM {version} ({chosen}) is in {folder}: {format_bytes(size)} of wheels")
    output.hint(f"selfhost engine install --wheelhouse {folder} --variant {chosen}")


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
            each.variant,
            format_bytes(each.size_bytes or 0),
            datetime.fromtimestamp(each.built or 0).astimezone().strftime("%Y-%m-%d %H:%M"),
            str(each.directory),
            each.origin,
        )
        for each in found
    ]
    output.table(("vllm", "variant", "size", "built", "path", "origin"), rows)


@engine.command(epilog=options.examples(f"selfhost engine remove {versions.DEFAULT}", "selfhost engine remove --all"))
@click.argument("version", required=False)
@click.option("--variant", type=click.Choice(VARIANTS), help="Only this build of the version.")
@click.option(
    "--all", "everything", is_flag=True, help="Every environment, what interrupted builds left, and all downloads."
)
def remove(*, version: str | None, variant: str | None, everything: bool) -> None:
    """Remove the environments of a version, unless something runs from them."""
    from selfhost.engines import removal

    if (version is None) != everything:
        raise click.UsageError("name one version, or say --all")
    if variant and everything:
        raise click.UsageError("--variant goes with a version")
    names = {f"vllm-{version}-{each}" for each in Variant if variant in {None, each}}
    existing = [path for path in environment.directories() if everything or path.name in names]
    if not existing and not (everything and environment.download_cache().exists()):
        raise SelfhostError(
            "no engine environment is installed"
            if everything
            else f"vLLM {version}{f' ({variant})' if variant else ''} is not installed",
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


def _choose(version: str, variant: str) -> Variant:
    """The variant that was asked for, or the one for this machine; raises `BlockedError` when its GPUs have none."""
    from selfhost.hardware.detect import detect
    from selfhost.planner.engine_build import choose_build

    versions.require_supported(version)
    if variant != AUTO:
        return Variant(variant)
    inventory = detect()
    if inventory.problem:
        raise BlockedError(
            f"no GPU can be used: {inventory.problem}", hint=f"{inventory.hint}; or name the build: --variant cpu"
        )
    return choose_build(version, inventory).variant or Variant.CPU


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
