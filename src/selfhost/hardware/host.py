"""The machine around the GPUs, as much of it as we may use."""

import math
import os
from pathlib import Path

import psutil

from selfhost.hardware.cgroup import Limits, read_limits
from selfhost.hardware.inventory import Host


def read_host(root: Path) -> Host:
    """This machine, with the limits of the control groups that `root` shows."""
    memory = psutil.virtual_memory()
    return limit(
        Host(
            architecture=os.uname().machine,
            cpu_count=_usable_cores(),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
        ),
        read_limits(root),
    )


def limit(machine: Host, limits: Limits) -> Host:
    """The part of `machine` that `limits` leave. A part of a core counts as one: it can be worked on."""

    def least(of_machine: int, *allowed: float | None) -> int:
        return min([of_machine, *(math.ceil(bound) for bound in allowed if bound is not None)])

    return Host(
        architecture=machine.architecture,
        cpu_count=max(1, least(machine.cpu_count, limits.cpu_cores)),
        memory_total_bytes=least(machine.memory_total_bytes, limits.memory_total_bytes),
        memory_available_bytes=least(
            machine.memory_available_bytes, limits.memory_available_bytes, limits.memory_total_bytes
        ),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: also what a cpuset leaves
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
