"""The gateway's address, and who else listens."""

import ipaddress
import os
from collections.abc import Collection
from pathlib import PurePath

import psutil

from selfhost import state
from selfhost.doctor.facts import Listener, NotLooked, PortAnswer
from selfhost.doctor.network import OPEN_PROGRAMS
from selfhost.errors import SelfhostError
from selfhost.gateway.listen import Address
from selfhost.manifest.values import Listen
from selfhost.runtime import process


def port(listen: Listen, manifest: str, manager_pid: int | None) -> PortAnswer:
    """Whether `listen` is free, by listening there for a moment, as the manager of `manifest` will."""
    text = str(listen)
    try:
        for each in Address.parse(text).listen(backlog=1):
            each.close()
    except SelfhostError as error:
        cause = error.__cause__
        words = os.strerror(cause.errno or 0) if isinstance(cause, OSError) else error.message
        found = listeners(pids_of(manifest) | ({manager_pid} if manager_pid else set()))
        holders = [each for each in found if each.port == listen.port] if not isinstance(found, NotLooked) else []
        holder = next((each for each in holders if each.ours), next(iter(holders), None))
        return PortAnswer(address=text, error=words, holder=holder, ours=bool(holder and holder.ours))
    return PortAnswer(address=text, error=None)


def listeners(ours: Collection[int]) -> tuple[Listener, ...] | NotLooked:
    """Every TCP socket that somebody listens on; `ours` are processes that selfhost started."""
    try:
        found = [each for each in psutil.net_connections(kind="tcp") if each.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:  # macOS tells only root
        return NotLooked(cause="this user may not see the sockets of other processes")
    return tuple(
        Listener(
            host=each.laddr[0],
            port=each.laddr[1],
            pid=each.pid,
            program=_program(each.pid) if each.pid else None,
            ours=each.pid in ours,
            private=ipaddress.ip_address(each.laddr[0].partition("%")[0]).is_loopback,
        )
        for each in found
        if each.laddr
    )


def pids_of(manifest: str) -> set[int]:
    """The processes on record for `manifest` that still run; none where a record cannot be read, which others say."""
    try:
        records = state.read_records(manifest)
    except SelfhostError:
        return set()
    return {
        identity.pid
        for record in records
        for identity in (record.process, *record.members)
        if process.is_same(identity)
    }


def _program(pid: int) -> str | None:
    """Its name, or the program of OPEN_PROGRAMS that its first words name: `python3 /opt/bin/vllm` is vllm."""
    try:
        found = psutil.Process(pid)
        words = [PurePath(word).name for word in found.cmdline()[:4]]
        name = found.name()
    except psutil.Error:
        return None
    known = [program for program in OPEN_PROGRAMS if any(_is(program, word) for word in [name, *words])]
    return known[0] if known else name


def _is(program: str, word: str) -> bool:
    # vLLM renames its processes ("VLLM::EngineCore"); Jupyter's commands are jupyter-lab, jupyter-notebook
    word = word.lower()
    return word == program or word.startswith((f"{program}::", f"{program}-", f"{program}."))
