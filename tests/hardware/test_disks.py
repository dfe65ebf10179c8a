import os
import threading
from pathlib import Path

import pytest

from selfhost.hardware import disks
from selfhost.hardware.disks import read_disks
from selfhost.hardware.inventory import Storage
from selfhost.hardware.mounts import Mount, mount_of, parse_mountinfo, storage_of

# A rented container: its own layer, a disk of the host for /etc/hosts, a network volume, one volume on top of another.
MOUNTINFO = r"""
1 0 0:1 / / rw,relatime master:5 - overlay overlay rw,lowerdir=/a:/b
2 1 0:2 / /proc rw - proc proc rw
3 1 0:3 / /dev/shm rw - tmpfs shm rw,size=65536k
4 1 8:1 /var/lib/docker/hosts /etc/hosts rw shared:1 master:2 - ext4 /dev/sda1 rw
5 1 0:4 / /work\040space rw - fuse.juicefs JuiceFS:vol rw
6 1 8:2 / /data rw - xfs /dev/sdb1 rw
7 1 0:5 / /data rw - nfs4 server:/export rw
8 7 8:3 / /data/models rw - ext4 /dev/sdc1 rw
this is no mount
"""


@pytest.mark.parametrize(
    ("folder", "path", "filesystem", "storage"),
    [
        ("/root/.cache", "/", "overlay", Storage.EPHEMERAL),
        ("/dev/shm/x", "/dev/shm", "tmpfs", Storage.MEMORY),
        ("/etc/hosts", "/etc/hosts", "ext4", Storage.LOCAL),
        ("/work space/hub", "/work space", "fuse.juicefs", Storage.NETWORK),
        ("/work spaces", "/", "overlay", Storage.EPHEMERAL),
        ("/data", "/data", "nfs4", Storage.NETWORK),
        ("/data/models/x", "/data/models", "ext4", Storage.LOCAL),
        ("/proc/self", "/proc", "proc", None),
    ],
)
def test_a_folder_is_on_the_mount_that_leads_to_it(folder: str, path: str, filesystem: str, storage) -> None:
    mount = mount_of(Path(folder), list(parse_mountinfo(MOUNTINFO)))
    assert mount
    assert (mount.path, mount.filesystem, storage_of(mount, in_container=True)) == (path, filesystem, storage)


@pytest.mark.parametrize(
    ("filesystem", "path", "root", "in_container", "storage"),
    [
        ("ext4", "/", "/", False, Storage.LOCAL),
        ("ext4", "/", "/", True, Storage.LOCAL),  # a virtual machine made from a container's image
        ("ext4", "/", "/var/lib/docker/vfs/dir/c0ffee", True, Storage.EPHEMERAL),
        ("btrfs", "/", "/@/docker/btrfs/subvolumes/c0ffee", True, Storage.EPHEMERAL),
        ("btrfs", "/", "/@", False, Storage.LOCAL),
        ("zfs", "/", "/", True, Storage.EPHEMERAL),
        ("zfs", "/data", "/", True, Storage.LOCAL),
        ("fuseblk", "/mnt", "/", False, Storage.LOCAL),
        ("9p", "/mnt", "/", True, Storage.NETWORK),
        ("lustre", "/mnt", "/", True, Storage.NETWORK),
        ("newfs", "/mnt", "/", True, None),
    ],
)
def test_storage_is_told_from_the_filesystem_and_from_whose_root_it_is(
    filesystem: str, path: str, root: str, in_container, storage: Storage | None
) -> None:
    mount = Mount(path=path, root=root, filesystem=filesystem)
    assert storage_of(mount, in_container=in_container) == storage


def test_the_disk_under_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/shm")
    (inner, shared), silent = read_disks(
        [("engines", tmp_path / "not" / "yet"), ("runtime", tmp_path / "link/sub")], root=Path("/"), container=None
    )
    assert silent == ()
    assert (inner.purpose, inner.path, inner.writable) == ("engines", str(tmp_path / "not" / "yet"), True)
    assert 0 <= inner.free_bytes <= inner.total_bytes
    assert tmp_path.is_relative_to(inner.mount or "nowhere")
    assert (shared.path, shared.filesystem, shared.storage) == (f"{tmp_path}/link/sub", "tmpfs", Storage.MEMORY)


def test_without_a_table_of_mounts_the_room_is_known_all_the_same(tmp_path: Path) -> None:  # as on macOS
    (disk,) = read_disks([("state", tmp_path)], root=tmp_path, container=None).found
    assert (disk.mount, disk.filesystem, disk.storage) == (None, None, None)
    assert disk.total_bytes == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_a_disk_whose_server_is_gone_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, back = tmp_path / "gone", threading.Event()
    gone.mkdir()
    real = os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        if path == gone:
            back.wait()
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(disks, "ANSWER_SECONDS", 0.2)
    (found,), silent = read_disks([("weights", gone), ("state", tmp_path)], root=tmp_path, container=None)
    back.set()
    assert (found.purpose, silent) == ("state", (str(gone),))
