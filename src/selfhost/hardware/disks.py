"""The disks that engines and weights go to."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from selfhost.hardware.inventory import Disk


def read_disks(places: Iterable[tuple[str, Path]]) -> tuple[Disk, ...]:
    """The disk under each (purpose, folder); the folder need not exist yet. One that cannot be asked is left out."""
    found = (_read(purpose, folder) for purpose, folder in places)
    return tuple(disk for disk in found if disk)


def _read(purpose: str, folder: Path) -> Disk | None:
    try:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        usage = shutil.disk_usage(there)
    except OSError:
        return None
    return Disk(purpose=purpose, path=str(folder), total_bytes=usage.total, free_bytes=usage.free)
