"""`selfhost logs`: what engines, gateway and manager say."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from selfhost.cli import options, output
from selfhost.errors import SelfhostError
from selfhost.manifest.load import load_manifest
from selfhost.runtime.logfile import log_files, logged_replicas
from selfhost.runtime.own_logs import OWN, own_log

POLL_SECONDS = 0.2


@click.command(epilog=options.examples("selfhost logs", "selfhost logs chat --follow", "selfhost logs gateway -n 20"))
@options.manifest
@options.name
@click.option("--follow", is_flag=True, help="Go on showing what is added, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=200, show_default=True, help="Lines to begin with.")
@click.argument("names", nargs=-1)
def logs(*, manifest_path: Path, name: str | None, follow: bool, lines: int, names: tuple[str, ...]) -> None:
    """Show the logs of engines, of `gateway` or of `manager`.

    NAMES are models, replicas, `gateway` or `manager`; without any, the engines of all models.
    """
    if name is None:
        with options.hint_at_name("logs"):
            manifest = load_manifest(manifest_path)
        name = manifest.name
        replicas = {
            model.name: [f"{model.name}/{number}" for number in range(model.replicas)] for model in manifest.models
        }
    else:
        replicas = logged_replicas(options.checked_name(name))
    sources = _sources(name, replicas, names)
    tails = [_Tail(source, prefix=len(sources) > 1) for source in sources]
    for tail in tails:
        for line in tail.last(lines):
            output.data(line)
    if not follow and not any(tail.found for tail in tails):
        raise SelfhostError(f"'{name}' has no logs yet", hint="selfhost up")
    while follow:
        for tail in tails:
            for line in tail.added():
                output.data(line)
        time.sleep(POLL_SECONDS)


class _Source:
    """The log files of one engine, of the gateway or of the manager; the newest is the current one."""

    def __init__(self, manifest: str, name: str) -> None:
        self.name = name
        self._manifest = manifest

    def newest(self) -> Path | None:
        if self.name in OWN:
            path = own_log(self._manifest, self.name)
            return path if path.exists() else None
        files = log_files(self._manifest, self.name)
        return files[-1] if files else None


def _sources(manifest: str, replicas: dict[str, list[str]], names: Sequence[str]) -> list[_Source]:
    known = {**replicas, **{name: [name] for name in OWN}}
    known |= {replica: [replica] for each in replicas.values() for replica in each}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SelfhostError(f"there is no log of '{unknown[0]}'", hint=f"there may be logs of {', '.join(known)}")
    wanted = dict.fromkeys(replica for name in names or replicas for replica in known[name])
    return [_Source(manifest, name) for name in wanted]


class _Tail:
    """The lines of one source, also across a restart, which begins a new file."""

    def __init__(self, source: _Source, *, prefix: bool) -> None:
        self._source = source
        self._prefix = f"{source.name} | " if prefix else ""
        self._path: Path | None = None
        self._offset = 0
        self.found = False

    def last(self, count: int) -> list[str]:
        """The last `count` lines; `added` goes on from there."""
        lines = list(self.added())
        return lines[-count:] if count else []

    def added(self) -> Iterator[str]:
        """The complete lines since the last call."""
        newest = self._source.newest()
        if newest is None:
            return
        self.found = True
        if newest != self._path and not self._was_renamed(newest):
            self._path, self._offset = newest, 0
        self._path = newest
        with newest.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # it was cut
                self._offset = 0
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                # A progress bar writes over its line; here each of its states has one.
                states = [state for state in line.decode(errors="replace").rstrip("\n").split("\r") if state]
                yield from (self._prefix + state for state in states or [""])

    def _was_renamed(self, newest: Path) -> bool:
        """Whether `newest` is the file that was read so far under its new name: a failed start renames its log."""
        return self._path is not None and newest.name.partition(".failed")[0] == self._path.stem
