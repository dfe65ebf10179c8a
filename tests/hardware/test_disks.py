from pathlib import Path

from selfhost.hardware.disks import read_disks


def test_the_disk_under_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    (disk,) = read_disks([("engines", tmp_path / "not" / "yet")])
    assert (disk.purpose, disk.path) == ("engines", str(tmp_path / "not" / "yet"))
    assert 0 <= disk.free_bytes <= disk.total_bytes
