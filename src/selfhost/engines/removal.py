"""Remove engine environments, unless something runs from them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from selfhost.engines import environment, lock
from selfhost.errors import SelfhostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a removal gave back."""

    freed_bytes: int
    linked_bytes: int  # shared with uv's cache, which keeps them


def remove(directory: Path) -> Removed:
    """Remove the environment in `directory`, finished or not; raises `SelfhostError` while it is in use."""

    def refuse() -> None:
        raise SelfhostError(
            f"{directory.name} is being built or removed by another selfhost", hint="try again when that has ended"
        )

    with lock.exclusive(directory, refuse):
        if users := processes_from(directory):
            raise SelfhostError(
                f"{directory.name} is in use by the process{'es' if len(users) > 1 else ''} "
                + ", ".join(str(pid) for pid in users),
                hint="stop what runs from it first: `selfhost down`",
            )
        freed = linked = 0
        for entry in environment.files(directory):
            found = entry.stat(follow_symlinks=False)
            if found.st_nlink == 1:
                freed += found.st_blocks * 512
            else:
                linked += found.st_blocks * 512
        (directory / "engine.json").unlink(missing_ok=True)  # from here on it does not count, whatever happens
        shutil.rmtree(directory)
        return Removed(freed_bytes=freed, linked_bytes=linked)


def remove_downloads() -> int:
    """Remove uv's cache, if it is the one that selfhost keeps; tell how many bytes that freed."""
    cache = environment.download_cache()
    if not cache.exists():
        return 0
    freed = environment.disk_bytes(cache)
    shutil.rmtree(cache)
    return freed


def processes_from(directory: Path) -> tuple[int, ...]:
    """The processes that run code of the environment in `directory`, as far as this user may see.

    Their executable is the Python that the environment was built on, and vLLM rewrites their command lines; the
    libraries they have mapped tell the truth, and the command line helps in their first moments.
    """
    mark = f"{directory}/".encode()
    return tuple(
        sorted(
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if mark in _bytes_of(process / "maps") or mark in _bytes_of(process / "cmdline")
        )
    )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended, or belongs to somebody else
        return b""
