import errno
import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from selfhost import paths
from selfhost.errors import SelfhostError
from selfhost.runtime import manager_lock
from selfhost.runtime.leftovers import clear_runtime_dir
from selfhost.runtime.manager_lock import LOCK, take, try_take


def test_only_one_has_it_and_nothing_stays() -> None:
    lock = try_take("box")
    assert lock
    assert try_take("box") is None
    lock.release()
    assert not paths.runtime_dir("box").exists()
    again = try_take("box")
    assert again
    again.release()


async def test_a_manager_waits_for_a_clean_up_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_lock, "CLEAN_UP_SECONDS", 0.1)
    lock = try_take("box")
    assert lock
    with pytest.raises(SelfhostError, match="another manager of 'box' runs already"):
        await take("box")
    lock.release()
    (await take("box")).release()


def test_a_disk_without_locks_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SelfhostError, match=r"cannot lock anything in .*: No locks available"):
        try_take("box")


def test_a_clean_up_leaves_the_lock_to_its_holder() -> None:
    lock = try_take("box")
    assert lock
    folder = paths.runtime_dir("box")
    (folder / "chat-0/t").mkdir(parents=True)
    (folder / "routes.json").touch()
    (folder / "away").symlink_to("/usr")
    clear_runtime_dir("box")
    assert [path.name for path in folder.iterdir()] == [LOCK]
    assert try_take("box") is None
    lock.release()


def _compete(claims: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if lock := try_take("box"):
            claim = os.open(claims, os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # fails when somebody else has the lock too
            os.close(claim)
            claims.unlink()
            lock.release()


def test_who_removes_the_file_never_lets_two_in(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    rivals = [context.Process(target=_compete, args=(tmp_path / "claim", 1.0)) for _ in range(3)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert [rival.exitcode for rival in rivals] == [0, 0, 0]
