"""One start of an engine: its processes, its log, and everything it leaves behind."""

import asyncio
import contextlib
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import psutil

from selfhost import paths, state
from selfhost.engines.command import Command
from selfhost.errors import SelfhostError
from selfhost.runtime import process
from selfhost.runtime.logfile import EngineLog

log = logging.getLogger(__name__)

ZMQ_NAME_BYTES = 37  # a slash and a UUID: what vLLM adds to VLLM_RPC_BASE_PATH (`utils/network_utils.py`)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)
ENGINE_COMM = "VLLM::"  # what vLLM's own processes call themselves; helpers of theirs may come and go


def replica_dir(manifest: str, replica: str) -> Path:
    """The private folder of a replica for its socket and temporary files."""
    folder = paths.runtime_dir(manifest) / replica.replace("/", "-")
    if len(os.fsencode(folder / "t")) + ZMQ_NAME_BYTES > paths.MAX_SOCKET_PATH:
        raise SelfhostError(
            f"the path {folder} is too long for the unix sockets in it",
            hint="set SELFHOST_RUNTIME to a shorter directory, or give the manifest or the model a shorter name",
        )
    return folder


def socket_path(manifest: str, replica: str) -> Path:
    """Where the engine of a replica listens."""
    return replica_dir(manifest, replica) / "engine.sock"


class EngineProcess:
    """A started engine. `spawn` it, watch `exited` and `member_died`, then `end` it: nothing of it stays."""

    def __init__(self, manifest: str, replica: str, command: Command) -> None:
        self._manifest = manifest
        self._replica = replica
        self._folder = paths.make_private(replica_dir(manifest, replica))
        self._socket = socket_path(manifest, replica)
        self._temp = paths.make_private(self._folder / "t")
        self._socket.unlink(missing_ok=True)
        self.log = EngineLog.begin(manifest, replica, command)
        with self.log.open() as output:
            self.child = process.spawn(command, output=output)
        self.member_died = asyncio.Event()
        self.dead_member = ""
        self._members: dict[int, int] = {}  # pid → pidfd
        self._record = state.RunRecord(
            name=replica,
            process=self.child.identity,
            started=time.time(),
            log=str(self.log.path),
            temp_dir=str(self._temp),
            socket=str(self._socket),
        )
        try:
            state.write_record(manifest, self._record)
        except OSError:  # what is not written down could not be found again: rather not run it
            self.child.kill_group()
            raise

    def note_members(self) -> None:
        """Write down which processes and which shared memory belong to this engine, and watch its core and workers."""
        members = process.group_members(self.child.pid)
        identities = tuple(found for member in members if (found := process.identify(member.pid)))
        record = replace(with_shared_memory(self._record), members=identities)
        if record != self._record:
            self._record = record
            try:
                state.write_record(self._manifest, self._record)
            except OSError as error:  # a full disk: the leader is on record, which is enough to find the group
                log.warning("cannot update the record of %s: %s", self._replica, error)
        for member in members:
            self._watch(member)

    def cpu_seconds(self) -> float:
        """Processor time that the whole engine has used."""
        total = 0.0
        for member in process.group_members(self.child.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                total += times.user + times.system
        return total

    def kill(self) -> None:
        """Kill every process at once; `end` then removes what they leave."""
        self.note_members()
        self.child.kill_group()

    async def end(self, *, grace_seconds: float, failed: bool) -> None:
        """End every process and remove everything that it left: sockets, temporary files, shared memory, the record."""
        try:
            self.note_members()  # those that outlive their leader, too
            await self.child.end(grace_seconds=grace_seconds)
        finally:
            for pidfd in self._members.values():
                asyncio.get_running_loop().remove_reader(pidfd)
                os.close(pidfd)
            self._members.clear()
        clean_up(self._manifest, self._record)
        self.log.finish(failed=failed)

    def _watch(self, member: psutil.Process) -> None:
        try:
            if member.pid in self._members or not member.name().startswith(ENGINE_COMM):
                return
            name, pidfd = member.name(), os.pidfd_open(member.pid)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return
        self._members[member.pid] = pidfd

        def died() -> None:
            asyncio.get_running_loop().remove_reader(pidfd)
            self.dead_member = self.dead_member or f"{name} (pid {member.pid})"
            self.member_died.set()

        asyncio.get_running_loop().add_reader(pidfd, died)


def with_shared_memory(record: state.RunRecord) -> state.RunRecord:
    """`record` with the shared memory that its group has mapped by now."""
    mapped = _mapped_shared_memory(process.group_members(record.process.pid))
    return replace(record, shared_memory=tuple(sorted({*record.shared_memory, *mapped})))


def clean_up(manifest: str, record: state.RunRecord) -> None:
    """Remove what an ended process left behind, its record last: until then another attempt can finish the job."""
    for left in (record.socket, *record.shared_memory):
        if left:
            Path(left).unlink(missing_ok=True)
    if record.temp_dir:
        shutil.rmtree(record.temp_dir, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty, or gone already
            Path(record.temp_dir).parent.rmdir()
    state.remove_record(manifest, record.name)


def _mapped_shared_memory(members: tuple[psutil.Process, ...]) -> set[str]:
    """The names under /dev/shm whose memory these processes have mapped.

    Found by inode: a semaphore is created under a temporary name and linked to its own, so `maps` shows a name that is
    gone (glibc `sem_open`).
    """
    inodes = set()
    for member in members:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member.pid}/maps").read_text().splitlines():
                if str(SHARED_MEMORY) in line:
                    inodes.add(int(line.split()[4]))
    found = set()
    for path in SHARED_MEMORY.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino in inodes:
                found.add(str(path))
    return found
