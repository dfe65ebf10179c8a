"""The log of an engine: one file per start, written by the engine itself, bounded in size and number."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from selfhost import paths
from selfhost.engines.command import Command

KEPT_STARTS = 5  # of the ordinary ones, and as many of those that failed
LARGEST_BYTES = 64 * 1024**2
READ_AT_ONCE = 1024**2
EXPLAINED_BYTES = 512 * 1024  # the end of a log in which the cause of a failure is looked for
FAILED = ".failed.log"


def log_dir(manifest: str, replica: str) -> Path:
    """Where the logs of a replica are, oldest first by name."""
    return paths.state_dir(manifest) / "logs" / replica.replace("/", "-")


def log_files(manifest: str, replica: str) -> list[Path]:
    """The logs of a replica, oldest first."""
    return sorted(log_dir(manifest, replica).glob("*.log"), key=lambda path: path.name)


def logged_replicas(manifest: str) -> dict[str, list[str]]:
    """The replicas of each model that there are logs of, whatever the manifest says now."""
    found: dict[str, list[str]] = {}
    for folder in sorted((paths.state_dir(manifest) / "logs").glob("*/")):
        model, _, number = folder.name.rpartition("-")  # as `log_dir` made it
        found.setdefault(model, []).append(f"{model}/{number}")
    return found


class EngineLog:
    """The log of one start. The engine appends to it; we only read, and cut it when it grows too large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0
        self._rest = b""

    @classmethod
    def begin(cls, manifest: str, replica: str, command: Command) -> "EngineLog":
        """A fresh log that starts with the command line; old logs beyond the kept ones are removed."""
        folder = paths.make_private(log_dir(manifest, replica))
        _remove_old(folder)
        path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.log"
        path.write_text(f"$ {' '.join(command.argv)}\n")
        path.chmod(0o600)
        return cls(path)

    def open(self) -> IO[bytes]:
        """The file for the engine to append to; appending is what makes cutting it safe."""
        return self.path.open("ab")

    def new_lines(self) -> list[str]:
        """The complete lines that were added since the last call."""
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            if size < self._read_to:  # it was cut
                self._read_to, self._rest = 0, b""
            file.seek(self._read_to)
            added = file.read(READ_AT_ONCE)
        self._read_to += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def tail(self) -> str:
        """The end of the log, for explaining a failure."""
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - EXPLAINED_BYTES))
            return file.read().decode(errors="replace")

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size

    def rotate(self) -> None:
        """Keep the log below its limit: what is there moves aside (one generation) and the engine goes on writing."""
        if self.size() > LARGEST_BYTES:
            shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
            with self.path.open("rb+") as file:
                file.truncate(0)

    def finish(self, *, failed: bool) -> None:
        """Mark the log of a failed start, so that later starts do not push it out."""
        if failed:
            self.path = self.path.rename(self.path.with_name(self.path.name.removesuffix(".log") + FAILED))


def _remove_old(folder: Path) -> None:
    logs = sorted(folder.glob("*.log"), key=lambda path: path.name)
    failed = [path for path in logs if path.name.endswith(FAILED)]
    ordinary = [path for path in logs if path not in failed]
    for path in [*failed[: -KEPT_STARTS + 1 or None], *ordinary[: -KEPT_STARTS + 1 or None]]:
        path.unlink(missing_ok=True)
        path.with_suffix(".log.1").unlink(missing_ok=True)
