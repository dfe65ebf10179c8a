"""The lock that makes a manager, or the clean-up after one, the only one of its name.

It lies in the runtime directory, which is on a local disk and of which nothing may stay. So the holder removes the
file, last of all, and whoever opened it before that looks whether what it has locked is still the file of that name:
otherwise two processes could lock two files.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from pathlib import Path

from selfhost import paths
from selfhost.errors import SelfhostError

LOCK = "manager.lock"
CLEAN_UP_SECONDS = 15.0  # how long `down` may hold the lock to end what a killed manager left behind
POLL_SECONDS = 0.05


class ManagerLock:
    """Held until `release`, or until the process ends: a crash frees it."""

    def __init__(self, runtime: Path, descriptor: int) -> None:
        self._runtime = runtime
        self._descriptor = descriptor

    def release(self) -> None:
        """Remove the lock, and its folder if nothing else is in it, and let the next one in."""
        with contextlib.suppress(OSError):  # something of somebody else may lie in the folder
            (self._runtime / LOCK).unlink()
            self._runtime.rmdir()
        os.close(self._descriptor)


async def take(name: str) -> ManagerLock:
    """The lock of `name`, for a manager; raises `SelfhostError` when another one has it and keeps it."""
    deadline = time.monotonic() + CLEAN_UP_SECONDS
    while (lock := try_take(name)) is None:
        if time.monotonic() > deadline:
            raise SelfhostError(
                f"another manager of '{name}' runs already", hint="selfhost ps; or give this manifest another `name`"
            )
        await asyncio.sleep(POLL_SECONDS)
    return lock


def try_take(name: str) -> ManagerLock | None:
    """The lock of `name`, or None when somebody has it."""
    path = paths.runtime_dir(name) / LOCK
    while True:
        with contextlib.suppress(FileNotFoundError):  # the last holder has just removed the folder
            paths.make_private(path.parent)
            descriptor = _open(path)
            if not try_flock(descriptor):
                os.close(descriptor)
                return None
            if _is_at(descriptor, path):
                return ManagerLock(path.parent, descriptor)
            os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SelfhostError(
            f"cannot write {path}: {error.strerror}", hint="set SELFHOST_RUNTIME to a directory that you can write"
        ) from error


def try_flock(descriptor: int) -> bool:
    """Lock an open file or folder for this process alone; False when somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise SelfhostError(
            f"cannot lock anything in {paths.runtime_root()}: {error.strerror}",
            hint="set SELFHOST_RUNTIME to a directory on a local disk",
        ) from error
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
