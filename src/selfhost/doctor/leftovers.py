"""Checks of what crashed or interrupted work left behind. Pure."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePath
from shlex import quote

from selfhost.doctor.facts import Leftovers
from selfhost.doctor.finding import Verdict, fine, note, warning
from selfhost.units import format_bytes


def runs(leftovers: Leftovers) -> Iterator[Verdict]:
    """Processes and records whose manager is gone."""
    for problem in leftovers.unreadable:
        yield warning(problem.message, fix=problem.hint)
    for manifest, group in groupby(leftovers.runs, key=lambda run: run.manifest):
        of_manifest = list(group)
        running = [f"{run.name} (pid {run.pid})" for run in of_manifest if run.pid]
        shared = sum(run.shared_memory_bytes for run in of_manifest)
        names = ", ".join(running or [run.name for run in of_manifest])
        yield warning(
            f"'{manifest}' has no manager, and "
            + (f"{names} still runs" if running else f"the record of {names} is left")
            + (f", with {format_bytes(shared)} of /dev/shm" if shared else ""),
            fix=f"selfhost down --name {manifest}",
        )
    if not leftovers.runs and not leftovers.unreadable:
        yield fine("no crashed run has left anything")


def builds(leftovers: Leftovers) -> Iterator[Verdict]:
    """Engine environments that were never finished."""
    for build in leftovers.builds:
        version = PurePath(build.path).name.split("-")[1]
        yield note(
            f"{build.path} was never finished or no longer works, and takes {format_bytes(build.size_bytes)}",
            fix=f"selfhost engine remove {version}",
        )
    if not leftovers.builds:
        yield fine("no unfinished engine environment")


def downloads(leftovers: Leftovers) -> Iterator[Verdict]:
    """Half-fetched files that no process has open: the Hub client starts them anew."""
    if leftovers.downloads:
        total = sum(rest.size_bytes for rest in leftovers.downloads)
        count = len(leftovers.downloads)
        yield note(
            f"{count} half-fetched file{'s' if count > 1 else ''} that nobody has open take{'s' if count == 1 else ''} "
            f"{format_bytes(total)}",
            fix="rm -f -- " + " ".join(quote(rest.path) for rest in leftovers.downloads),
        )
    else:
        yield fine("no half-fetched weights")
