"""The machine around the GPUs, as much of it as we may use."""

import math
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from selfhost.hardware.cgroup import Limits, read_limits
from selfhost.hardware.container import read_container
from selfhost.hardware.inventory import Host, KernelLimits
from selfhost.hardware.kernel_file import number, read_text
from selfhost.units import KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The memory of the whole machine, whatever control groups say."""

    total_bytes: int
    available_bytes: int


def read_host(root: Path, environ: Mapping[str, str]) -> Host:
    """This machine, with the limits of the control groups that `root` shows."""
    memory = read_memory(root)
    shm = _read_shm(root)
    machine = Host(
        architecture=os.uname().machine,
        cpu_count=_usable_cores(),
        memory_total_bytes=memory.total_bytes,
        memory_available_bytes=memory.available_bytes,
        shm_total_bytes=shm.f_blocks * shm.f_frsize if shm else None,
        shm_free_bytes=shm.f_bavail * shm.f_frsize if shm else None,
        numa_node_count=len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        kernel=os.uname().release,
        init=read_text(root / "proc/1/comm"),
        container=read_container(root, environ),
        root=os.geteuid() == 0,
        limits=KernelLimits(
            open_files=_hard_limit(resource.RLIMIT_NOFILE),
            locked_memory_bytes=_hard_limit(resource.RLIMIT_MEMLOCK),
            # the kernel does not hold root to it (fork(2))
            processes=_hard_limit(resource.RLIMIT_NPROC) if os.geteuid() else None,
        ),
    )
    return limit(machine, read_limits(root))


def read_memory(root: Path) -> HostMemory:
    """/proc/meminfo, or what psutil knows where there is none."""
    lines = (read_text(root / "proc/meminfo") or "").splitlines()
    kibibytes = {
        key: number(rest.removesuffix("kB").strip()) for key, _, rest in (line.partition(":") for line in lines)
    }
    total, available = kibibytes.get("MemTotal"), kibibytes.get("MemAvailable")
    if total is not None and available is not None:
        return HostMemory(total_bytes=total * KIB, available_bytes=available * KIB)
    try:
        memory = psutil.virtual_memory()
    except (OSError, KeyError):  # it reads /proc/meminfo too, which a sandbox may hide
        page = os.sysconf("SC_PAGE_SIZE")
        return HostMemory(
            total_bytes=os.sysconf("SC_PHYS_PAGES") * page, available_bytes=os.sysconf("SC_AVPHYS_PAGES") * page
        )
    return HostMemory(total_bytes=memory.total, available_bytes=memory.available)


def limit(machine: Host, limits: Limits) -> Host:
    """The part of `machine` that `limits` leave. A part of a core counts as one: it can be worked on."""

    def least(of_machine: int, *allowed: float | None) -> int:
        return min([of_machine, *(math.ceil(bound) for bound in allowed if bound is not None)])

    processes = [bound for bound in (machine.limits.processes, limits.processes) if bound is not None]
    return replace(
        machine,
        cpu_count=max(1, least(machine.cpu_count, limits.cpu_cores)),
        memory_total_bytes=least(machine.memory_total_bytes, limits.memory_total_bytes),
        memory_available_bytes=least(
            machine.memory_available_bytes, limits.memory_available_bytes, limits.memory_total_bytes
        ),
        limits=replace(machine.limits, processes=min(processes, default=None)),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: also what a cpuset leaves
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _hard_limit(kind: int) -> int | None:
    _, hard = resource.getrlimit(kind)
    return None if hard == resource.RLIM_INFINITY else hard


def _read_shm(root: Path) -> os.statvfs_result | None:
    try:
        return os.statvfs(root / "dev/shm")
    except OSError:  # not on macOS
        return None
