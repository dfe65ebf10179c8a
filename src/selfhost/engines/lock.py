"""One builder, or remover, of an environment at a time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selfhost.errors import SelfhostError


@contextmanager
def exclusive(directory: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the lock of `directory`, after `on_wait()` and a wait when another process has it.

    Yields the descriptor: as long as any process has it open, the lock is held. The lock file lies beside the
    directory, which comes and goes, and stays: removing it would let two processes lock two files of one name.
    """
    path = directory.with_name(f".{directory.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SelfhostError(
            f"cannot write {path}: {error.strerror}", hint="set SELFHOST_HOME to a directory that you can write"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise SelfhostError(
                f"cannot lock {path}: {error.strerror}", hint="set SELFHOST_HOME to a directory on a local disk"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)
