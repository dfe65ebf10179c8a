"""Disks that are full: a sentence, no hang, nothing left, and everything works again when there is room."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.waiting import wait_for


@pytest.fixture
def full_disk() -> Iterator[Callable[[str], Path]]:
    """`full_disk("SELFHOST_STATE")`: puts that directory onto a disk of its own without a free byte."""
    mounted: list[Path] = []

    def fill(variable: str) -> Path:
        folder = Path(os.environ[variable])
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a disk")
        mounted.append(folder)
        return _fill(folder / "filler")

    yield fill
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("variable", ["SELFHOST_STATE", "SELFHOST_RUNTIME"])
def test_a_full_disk_ends_in_a_sentence_and_no_hang(box, full_disk, variable: str) -> None:
    filler = full_disk(variable)
    ran = box("up", "--wait", "--timeout", "20")
    assert ran.code == 4
    assert "No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout
    assert 'File "' not in ran.stderr
    assert "internal error" not in ran.stderr
    assert box("down", timeout=20).code == 0
    filler.unlink()
    box.up()
    assert box.chat()[0] == 200
    assert box("down").code == 0


def test_a_disk_that_fills_up_while_serving_stops_nothing(box, full_disk) -> None:
    filler = full_disk("SELFHOST_STATE")
    filler.unlink()
    box.up()
    _fill(filler)
    box.group()["server"].kill()
    wait_for(lambda: not box.ready())
    filler.unlink()
    wait_for(box.ready, seconds=40)
    assert box.chat()[0] == 200


def _fill(path: Path) -> Path:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(path).free == 0
    return path
