"""The disks that engines, weights, state and sockets go to."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from selfhost.hardware.inventory import PERSISTENT, Disk
from selfhost.hardware.kernel_file import read_text
from selfhost.hardware.mounts import Mount, mount_of, parse_mountinfo, storage_of

ANSWER_SECONDS = 0.8  # a local disk takes milliseconds, a network's that is there not much longer


class Disks(NamedTuple):
    """What was found out."""

    found: tuple[Disk, ...]
    silent: tuple[str, ...]  # folders whose disk does not answer


def read_disks(places: Sequence[tuple[str, Path]], *, root: Path, container: str | None) -> Disks:
    """The disk under each (purpose, folder); the folder need not exist yet. One that cannot be asked is left out.

    `root` holds the /proc with the table of mounts, which only Linux has; `container` is `Host.container`. Each is
    asked in a thread of its own: the kernel keeps whoever asks about a network filesystem whose server is gone.
    """
    mounts = list(parse_mountinfo(read_text(root / "proc/self/mountinfo") or ""))
    in_container = container is not None and container not in PERSISTENT
    answers: dict[int, Disk | None] = {}

    def ask(number: int, purpose: str, folder: Path) -> None:
        answers[number] = _read(purpose, folder, mounts, in_container=in_container)

    threads = [threading.Thread(target=ask, args=(number, *place), daemon=True) for number, place in enumerate(places)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return Disks(
        found=tuple(disk for _, disk in sorted(answers.copy().items()) if disk),
        silent=tuple(str(folder) for number, (_, folder) in enumerate(places) if threads[number].is_alive()),
    )


def _read(purpose: str, folder: Path, mounts: list[Mount], *, in_container: bool) -> Disk | None:
    try:
        there = next(parent for parent in (folder, *folder.parents) if _is_there(parent)).resolve()
        usage = os.statvfs(there)
    except OSError:
        return None
    mount = mount_of(there, mounts)
    return Disk(
        purpose=purpose,
        path=str(folder),
        total_bytes=usage.f_blocks * usage.f_frsize,
        free_bytes=usage.f_bavail * usage.f_frsize,
        free_inodes=usage.f_favail if usage.f_files else None,
        mount=mount.path if mount else None,
        filesystem=mount.filesystem if mount else None,
        storage=storage_of(mount, in_container=in_container) if mount else None,
        writable=os.access(there, os.W_OK | os.X_OK),
    )


def _is_there(folder: Path) -> bool:
    """Whether it exists for us: not below a folder that we may not enter, which `Path.exists` raises for."""
    try:
        folder.stat()
    except OSError:
        return False
    return True
