"""The log of an engine: one file per start, written by the engine itself, bounded in size and number."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from selfhost import paths
from selfhost.engines.command import Command

KEPT_STARTS = 5  # of the ordinary ones, and as many of those that failed
KEPT_BYTES = 256 * 1024**2  # of the earlier starts of a replica together; the present one has two parts of its own
LARGEST_BYTES = 64 * 1024**2  # of each part of a log
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


def rotate(path: Path, largest_bytes: int) -> None:
    """Empty a log that is larger than that; the end of it moves aside (one generation).

    Whoever writes goes on in the same file: safe when it is open for appending. Raises `OSError`.
    """
    if path.stat().st_size <= largest_bytes:
        return
    with path.open("rb+") as file:
        file.seek(-largest_bytes, 2)
        _rotated(path).touch(mode=0o600)
        with _rotated(path).open("wb") as aside:
            shutil.copyfileobj(file, aside)
        file.truncate(0)


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
        """The complete lines that were added since the last call; a log that grows too large is cut on the way."""
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            if size < self._read_to:  # it was cut
                self._read_to, self._rest = 0, b""
            file.seek(self._read_to)
            added = file.read(READ_AT_ONCE)
        self._read_to += len(added)
        self.rotate()
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
        """Keep the log below its limit, while the engine goes on writing."""
        rotate(self.path, LARGEST_BYTES)

    def finish(self, *, failed: bool) -> None:
        """Mark the log of a failed start, both parts of it, so that later starts do not push it out."""
        if failed:
            ended = self.path.with_name(self.path.name.removesuffix(".log") + FAILED)
            if _rotated(self.path).exists():
                _rotated(self.path).rename(_rotated(ended))
            self.path = self.path.rename(ended)


def _rotated(path: Path) -> Path:
    """Where the part of a log that moved aside is."""
    return path.with_suffix(".log.1")


def _remove_old(folder: Path) -> None:
    """Leave room for one more start: of each kind the last ones, and of both together no more than `KEPT_BYTES`."""
    logs = sorted(folder.glob("*.log"), key=lambda path: path.name)
    failed = [path for path in logs if path.name.endswith(FAILED)]
    ordinary = [path for path in logs if path not in failed]
    kept = {*failed[1 - KEPT_STARTS :], *ordinary[1 - KEPT_STARTS :]}
    room = KEPT_BYTES
    for path in reversed(logs):
        parts = [part for part in (path, _rotated(path)) if part.exists()]
        room -= sum(part.stat().st_size for part in parts) if path in kept else 0
        if path not in kept or room < 0:
            for part in parts:
                part.unlink()
