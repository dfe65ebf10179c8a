import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from fixtures.waiting import wait_for
from selfhost.engines.command import Command
from selfhost.runtime import process
from selfhost.state import ProcessIdentity, RunRecord

# A leader with a child that outlives it, as an engine's core does.
FAMILY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); {then}"


@pytest.fixture
async def spawn() -> AsyncIterator[Callable[[str], process.Child]]:
    children = []

    def start(code: str) -> process.Child:
        command = Command(argv=(sys.executable, "-c", code), env={"PATH": os.environ["PATH"]})
        children.append(process.spawn(command, output=subprocess.DEVNULL))
        return children[-1]

    yield start
    for child in children:
        await child.end(grace_seconds=0)


async def test_a_child_leads_a_group_and_session_of_its_own(spawn) -> None:
    child = spawn("import time; time.sleep(60)")
    assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
    assert process.is_same(child.identity)


async def test_its_exit_is_noticed_with_its_code(spawn) -> None:
    child = spawn("raise SystemExit(3)")
    await child.exited.wait()
    assert child.exit_code == 3
    assert process.start_ticks(child.pid) is None


async def test_ending_it_lets_it_finish_first(spawn) -> None:
    child = spawn("import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); signal.pause()")
    await _until(lambda: _catches_term(child.pid))
    await child.end(grace_seconds=10)
    assert child.exit_code == 7


async def test_what_does_not_listen_is_killed_with_everything_it_started(spawn) -> None:
    child = spawn(FAMILY.format(then="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"))
    await _until(lambda: len(process.group_members(child.pid)) == 2)
    members = process.group_members(child.pid)
    await child.end(grace_seconds=0)
    assert child.exit_code == -signal.SIGKILL
    assert not [member for member in members if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


async def test_a_group_outlives_its_leader_and_is_still_found(spawn) -> None:
    child = spawn(FAMILY.format(then="time.sleep(0.5)"))
    await _until(lambda: len(process.group_members(child.pid)) == 2)
    (orphan,) = [member for member in process.group_members(child.pid) if member.pid != child.pid]
    identity = process.identify(orphan.pid)
    await child.exited.wait()
    record = _record(child.identity, members=(identity,))
    assert process.still_runs(record)
    await process.end_group(child.pid)
    assert not process.still_runs(record)


async def test_nobody_is_ended_on_a_pid_alone(spawn) -> None:
    child = spawn("import time; time.sleep(60)")
    earlier = ProcessIdentity(pid=child.pid, start_ticks=child.identity.start_ticks - 1, boot_id=process.boot_id())
    other_boot = ProcessIdentity(pid=child.pid, start_ticks=child.identity.start_ticks, boot_id="another")
    for stranger in (earlier, other_boot):
        assert not process.still_runs(_record(stranger))


def _record(identity: ProcessIdentity, members: tuple[ProcessIdentity, ...] = ()) -> RunRecord:
    return RunRecord(name="chat/0", process=identity, members=members, started=0.0, log="/dev/null")


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def _catches_term(pid: int) -> bool:
    caught = next(line for line in _status(pid).splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


async def _until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, condition, seconds=10)
