"""One child process and its group: spawned alone, recognised again, ended whole.

Every child leads a session of its own, so `killpg` reaches what it started even after it is gone itself (an engine's
core and workers outlive a killed API server for minutes).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from selfhost.engines.command import Command
from selfhost.errors import SelfhostError
from selfhost.state import ProcessIdentity, RunRecord

KILL_SECONDS = 10.0  # after SIGKILL the kernel may still be busy freeing GPU memory
POLL_SECONDS = 0.05


def boot_id() -> str:
    """The identity of this boot: after another one no recorded pid means anything."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise SelfhostError(
            f"the kernel does not tell when it booted: {error.strerror}", hint="mount -t proc proc /proc"
        ) from error


def start_ticks(pid: int) -> int | None:
    """When `pid` was started, in clock ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name before it may hold spaces and parentheses


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the living process `pid`."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessIdentity(pid=pid, start_ticks=ticks, boot_id=boot_id())


def is_same(identity: ProcessIdentity) -> bool:
    """Whether the recorded process is the one that has this pid now."""
    return identity.boot_id == boot_id() and start_ticks(identity.pid) == identity.start_ticks


def group_members(group: int) -> tuple[psutil.Process, ...]:
    """The living processes of a process group, zombies left out."""
    return tuple(_members(group))


def _members(group: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process


class Child:
    """A process that we started, with its group."""

    def __init__(self, popen: subprocess.Popen[bytes], identity: ProcessIdentity) -> None:
        self._popen = popen
        self.identity = identity
        self.pid = popen.pid
        self.exited = asyncio.Event()
        self._gone = False  # the whole group; from then on its number may be somebody else's
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def kill_group(self) -> None:
        """Kill everything in the group, now."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self, *, grace_seconds: float) -> None:
        """End the whole group: SIGTERM to the leader, up to `grace_seconds` to finish, then SIGKILL to what is left.

        Raises `SelfhostError` when something of it cannot be killed.
        """
        if grace_seconds > 0 and not self.exited.is_set():
            self.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), grace_seconds)
        await end_group(self.pid)
        await self.exited.wait()
        self._gone = True

    def _on_exit(self) -> None:
        self._popen.wait()  # at once: the pidfd says that it has ended
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exited.set()


def spawn(command: Command, *, output: IO[bytes] | int, pass_fds: tuple[int, ...] = ()) -> Child:
    """Start `command` as the leader of a session of its own; standard output and error go to `output`.

    Raises `OSError` when it cannot be started.
    """
    popen = subprocess.Popen(
        command.argv,
        env=dict(command.env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
        cwd="/",
    )
    identity = identify(popen.pid)
    if identity is None:  # unreachable while we hold the zombie, but never record a process we did not see
        raise OSError(f"process {popen.pid} vanished at once")
    return Child(popen, identity)


async def end_group(group: int) -> None:
    """Kill what is left of a process group and wait until it is gone; raises `SelfhostError` if it cannot be killed."""
    deadline = time.monotonic() + KILL_SECONDS
    while members := group_members(group):
        if time.monotonic() > deadline:
            pids = ", ".join(str(member.pid) for member in members)
            raise SelfhostError(
                f"cannot kill process {pids}: the kernel does not let go of it",
                hint="`sudo dmesg | tail` may say why (a GPU or a disk that hangs); a reboot ends it",
            )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        reap(group)
        await asyncio.sleep(POLL_SECONDS)
    reap(group)


def reap(group: int) -> None:
    """Collect the zombies of a group that became our children, as they do when we are process 1 of a container.

    The leader is left to its `Popen`, which wants its exit code.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, ChildProcessError):
            if process.pid != group and os.getpgid(process.pid) == group and process.ppid() == os.getpid():
                os.waitpid(process.pid, os.WNOHANG)


def still_runs(record: RunRecord) -> bool:
    """Whether something of the group that an earlier manager started is still there.

    A group outlives its leader and a pid is used again one day, so a group is ours only when the leader or a recorded
    member is still the very process that was recorded.
    """
    ours = [identity for identity in (record.process, *record.members) if is_same(identity)]
    if not any(_group_of(identity.pid) == record.process.pid for identity in ours):
        return False
    return bool(group_members(record.process.pid))  # else zombies that nobody has collected


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
