"""What the system knows about GPUs that NVML does not tell: where they stand, what went wrong, whose processes run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from selfhost.control_characters import in_one_line
from selfhost.hardware.host import HostMemory, read_memory
from selfhost.hardware.inventory import Gpu, GpuProcess, UnusableGpu
from selfhost.hardware.kernel_file import number, read_text
from selfhost.hardware.xids import read_xids

# The namespace that the kernel starts with has this number (include/linux/proc_ns.h: PROC_PID_INIT_INO). Only there
# do the process ids that the driver tells mean anything: it knows no namespaces.
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Facts to complete GPUs with."""

    memory: HostMemory | None = None  # for GPUs that have none of their own
    numa_nodes: Mapping[str, int] = field(default_factory=dict)  # by PCI address
    xids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by PCI address
    commands: Mapping[int, str] = field(default_factory=dict)  # by process id


def read_surroundings(root: Path, gpus: Sequence[Gpu | UnusableGpu]) -> Surroundings:
    """Look up what concerns `gpus` under `root`."""
    addresses = {gpu.pci_bus_id for gpu in gpus if gpu.pci_bus_id}
    nodes = {address: _numa_node(root, address) for address in addresses}
    pids = {process.pid for gpu in gpus if isinstance(gpu, Gpu) for process in gpu.processes or ()}
    return Surroundings(
        memory=read_memory(root),
        numa_nodes={address: node for address, node in nodes.items() if node is not None},
        xids=read_xids(root),
        commands=_commands(root, pids),
    )


AnyGpu = TypeVar("AnyGpu", Gpu, UnusableGpu)


def add(surroundings: Surroundings, gpu: AnyGpu) -> AnyGpu:
    """`gpu` with what its surroundings add. Pure."""
    memory, address = surroundings.memory, gpu.pci_bus_id or ""
    xids = surroundings.xids.get(address, ())
    if isinstance(gpu, UnusableGpu):
        return replace(gpu, xids=xids)
    if gpu.unified_memory and memory:
        gpu = replace(gpu, memory_total_bytes=memory.total_bytes, memory_free_bytes=memory.available_bytes)
    return replace(
        gpu,
        numa_node=surroundings.numa_nodes.get(address),
        xids=xids,
        processes=None
        if gpu.processes is None
        else tuple(_named(process, surroundings.commands) for process in gpu.processes),
    )


def _named(process: GpuProcess, commands: Mapping[int, str]) -> GpuProcess:
    return replace(process, command=commands.get(process.pid))


def _numa_node(root: Path, address: str) -> int | None:
    """The host's node next to the GPU.

    Not nvmlDeviceGetNumaNodeId: that is the node which a Grace Hopper's own memory is, and no core belongs to it.
    """
    # -1: the firmware does not say, as on machines with one node
    return number(read_text(root / "sys/bus/pci/devices" / address / "numa_node") or "")


def _commands(root: Path, pids: set[int]) -> dict[int, str]:
    try:
        if str((root / "proc/self/ns/pid").readlink()) != _INITIAL_PID_NAMESPACE:
            return {}
    except OSError:
        return {}
    # None: gone, or in a /proc that hides the processes of others
    names = {pid: read_text(root / f"proc/{pid}/comm") for pid in pids}
    return {pid: in_one_line(name) for pid, name in names.items() if name}
