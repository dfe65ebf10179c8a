import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures.waiting import wait_for
from selfhost import paths
from selfhost.cli.background import manager_log
from selfhost.runtime import own_logs
from selfhost.runtime.own_logs import OWN, keep_bounded, own_log


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_logs, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(own_logs, "LOOK_SECONDS", 0.001)
    (paths.state_dir("box") / "logs").mkdir(parents=True)


def parts(name: str) -> list[Path]:
    path = own_log("box", name)
    return [part for part in (path, path.with_suffix(".log.1")) if part.exists()]


async def until_small(name: str) -> None:
    path = own_log("box", name)
    await asyncio.to_thread(wait_for, lambda: path.stat().st_size <= own_logs.LARGEST_BYTES)


@pytest.mark.parametrize("name", OWN)
async def test_a_log_that_grows_and_grows_is_cut_while_it_is_written(name: str) -> None:
    bounding = asyncio.create_task(keep_bounded("box"))
    with own_log("box", name).open("ab", buffering=0) as writer:
        for number in range(50):
            writer.write(b"x" * 500 + b"%d\n" % number)
            await until_small(name)
        assert sum(part.stat().st_size for part in parts(name)) <= 2 * own_logs.LARGEST_BYTES
        assert any(part.read_bytes().endswith(b"x49\n") for part in parts(name))
    assert [part.name for part in parts(name)] == [f"{name}.log", f"{name}.log.1"]
    bounding.cancel()
    with suppress(asyncio.CancelledError):
        await bounding


async def test_a_log_that_is_not_there_or_no_file_does_not_end_it() -> None:
    own_log("box", "gateway").mkdir()
    bounding = asyncio.create_task(keep_bounded("box"))
    own_log("box", "manager").write_bytes(b"x" * 2000)
    await until_small("manager")
    assert not bounding.done()
    bounding.cancel()


def test_the_parts_of_a_log_are_for_this_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfhost.cli.background.LARGEST_BYTES", 1000)
    manager_log("box").write_bytes(b"x" * 2000)
    assert manager_log("box").read_bytes() == b""
    assert [part.stat().st_mode & 0o777 for part in parts("manager")] == [0o600, 0o600]
