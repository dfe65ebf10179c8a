"""The disks that engines, weights, state and sockets go to."""

import os
from collections.abc import Iterable
from pathlib import Path

from selfhost.hardware.container import PERSISTENT
from selfhost.hardware.inventory import Disk
from selfhost.hardware.kernel_file import read_text
from selfhost.hardware.mounts import Mount, mount_of, parse_mountinfo, storage_of


def read_disks(places: Iterable[tuple[str, Path]], *, root: Path, container: str | None) -> tuple[Disk, ...]:
    """The disk under each (purpose, folder); the folder need not exist yet. One that cannot be asked is left out.

    `root` holds the /proc with the table of mounts, which only Linux has; `container` is `Host.container`.
    """
    mounts = list(parse_mountinfo(read_text(root / "proc/self/mountinfo") or ""))
    in_container = container is not None and container not in PERSISTENT
    found = (_read(purpose, folder, mounts, in_container=in_container) for purpose, folder in places)
    return tuple(disk for disk in found if disk)


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
