"""Who holds the memory of a GPU, in words: the bytes are the truth, the list of processes may have holes. Pure."""

from dataclasses import dataclass

from selfhost.hardware.inventory import Gpu, GpuProcess
from selfhost.units import GIB, format_bytes

# What a driver keeps of an idle GPU for itself is below this (0.4 to 0.6 GiB where it is counted as used at all).
WORTH_TELLING_BYTES = GIB

_UNSEEN = "processes that are not visible here"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMemory:
    """How much is held, and by whom."""

    held_bytes: int
    holders: str  # "python3 (17) 2 GiB, 18.4 GiB by processes that are not visible here"


def held_memory(gpu: Gpu) -> HeldMemory | None:
    """What is held of the memory of `gpu`; None where that is unknown, or where the memory is the host's."""
    if gpu.unified_memory or gpu.memory_total_bytes is None or gpu.memory_free_bytes is None:
        return None
    held = gpu.memory_total_bytes - gpu.memory_free_bytes
    return HeldMemory(held_bytes=held, holders=_holders(gpu.processes or (), held))


def _holders(processes: tuple[GpuProcess, ...], held_bytes: int) -> str:
    if not processes:
        return _UNSEEN
    told = [_process(process) for process in processes]
    amounts = [process.used_bytes for process in processes]
    unseen = held_bytes - sum(amount for amount in amounts if amount is not None)
    if None not in amounts and unseen >= WORTH_TELLING_BYTES:
        told.append(f"{format_bytes(unseen)} by {_UNSEEN}")
    return ", ".join(told)


def _process(process: GpuProcess) -> str:
    """A pid without a name is that of another pid namespace, or of a process that has just ended: nobody knows."""
    name = f"{process.command} ({process.pid})" if process.command else f"process {process.pid}"
    return f"{name} {'an unknown amount' if process.used_bytes is None else format_bytes(process.used_bytes)}"
