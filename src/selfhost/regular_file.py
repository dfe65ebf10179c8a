"""Regular files that somebody else may have put there: never waited for, and never read without end."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EFBIG, EINVAL
from pathlib import Path
from typing import IO

from selfhost.units import format_bytes

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(OSError):
    """There is something else in the place of the file; `kind` says what ("a socket")."""

    def __init__(self, kind: str, path: Path) -> None:
        super().__init__(EINVAL, f"it is {kind}, not a file", str(path))
        self.kind = kind


class TooLargeError(OSError):
    """The file is larger than whatever it should be could ever be."""

    def __init__(self, limit: int, path: Path) -> None:
        super().__init__(EFBIG, f"it is larger than {format_bytes(limit)}", str(path))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """`path`, open for reading; raises `OSError`, and `NotAFileError` for what is no regular file."""
    _require_regular(path.stat(), path)  # before opening: that alone starts some devices, and fails for sockets
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe put there since must not block
    with os.fdopen(descriptor, "rb") as file:
        _require_regular(os.fstat(descriptor), path)
        yield file


def read(path: Path, *, limit: int) -> bytes:
    """The whole of `path`; raises `TooLargeError` above `limit` bytes, and what `opened` raises.

    No more than the file says to hold: those of the kernel (/proc/kmsg) say 0, and reading some takes what they hold.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise TooLargeError(limit, path)
        return file.read(size)


def _require_regular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError(_KINDS.get(stat.S_IFMT(found.st_mode), "something else"), path)
