"""Which filesystem a folder is on, and what becomes of what is written there. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfhost.hardware.inventory import Storage

_LAYERS = ("overlay", "aufs", "fuse.fuse-overlayfs")
_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "rootfs")
_DISKS = (
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs"),
    *("vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "apfs", "hfs", "ufs"),
)
_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "wekafs", "glusterfs"),
    *("orangefs", "ocfs2", "gfs2", "panfs", "vastnfs", "9p", "virtiofs", "prl_fs", "vboxsf", "fuse"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mounted filesystem."""

    path: str
    root: str = "/"  # which folder of the filesystem is mounted there
    filesystem: str  # as the kernel names it


def parse_mountinfo(text: str) -> Iterator[Mount]:
    """The lines of /proc/self/mountinfo (proc_pid_mountinfo(5)); one that is not as described there is left out."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) >= 6:
            yield Mount(path=_unescape(fields[4]), root=_unescape(fields[3]), filesystem=after.split(" ")[0])


def mount_of(folder: Path, mounts: list[Mount]) -> Mount | None:
    """The mount that `folder`, free of links, is on: the longest that leads to it, and of equals the one on top."""
    above = {str(folder), *map(str, folder.parents)}
    leading = [mount for mount in mounts if mount.path in above]
    return max(reversed(leading), key=lambda mount: len(mount.path), default=None)


def storage_of(mount: Mount, *, in_container: bool) -> Storage | None:
    """How long what is written to `mount` lives; None for a filesystem that is not known here.

    `in_container`: we run in one whose own layer goes with it. Mostly that is an overlay, but Docker and Podman can
    keep layers as folders or subvolumes of a disk, and as datasets of ZFS.
    """
    layer = in_container and mount.path == "/" and (mount.root != "/" or mount.filesystem == "zfs")
    if layer or mount.filesystem in _LAYERS:
        return Storage.EPHEMERAL
    if mount.filesystem in _MEMORY:
        return Storage.MEMORY
    if mount.filesystem in _DISKS:
        return Storage.LOCAL
    if mount.filesystem in _NETWORK or mount.filesystem.startswith("fuse."):
        return Storage.NETWORK
    return None


def _unescape(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
