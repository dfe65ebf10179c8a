"""What memory each device offers to engines. Pure."""

from dataclasses import dataclass

from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.planner.plan import Basis, Figure, Platform
from selfhost.units import MIB

# A CUDA context and NCCL's buffers exist before the engine measures what is free (vLLM `v1/worker/gpu_worker.py`:
# the snapshot follows `init_worker_distributed_environment`), so that much of the free memory cannot be asked for.
CONTEXT_BYTES = 512 * MIB

HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU, or the host of a CPU box."""

    id: str  # the GPU's UUID, or "host"
    index: int | None
    name: str | None
    total: Figure
    usable_bytes: int  # of the total, what nobody else holds
    cause: str  # why it is not all of it, "" when it is


def devices(inventory: Inventory, platform: Platform) -> tuple[Device, ...]:
    """The devices that engines may be placed on; a GPU whose memory is unknown is none."""
    if platform is Platform.CPU:
        host = inventory.host
        total = Figure(bytes=host.memory_total_bytes, basis=Basis.MEASURED, note="memory of the host")
        return (
            Device(
                id=HOST,
                index=None,
                name=None,
                total=total,
                usable_bytes=host.memory_available_bytes,
                cause="what other processes leave",
            ),
        )
    return tuple(device for gpu in inventory.gpus if (device := _from_gpu(gpu)))


def _from_gpu(gpu: Gpu) -> Device | None:
    if gpu.memory_total_bytes is None:
        return None
    total = Figure(bytes=gpu.memory_total_bytes, basis=Basis.MEASURED, note="NVML")
    usable, cause = gpu.memory_total_bytes, ""
    if gpu.memory_free_bytes is not None and gpu.memory_free_bytes - CONTEXT_BYTES < usable:
        usable = max(0, gpu.memory_free_bytes - CONTEXT_BYTES)
        cause = "what other processes and the CUDA context leave"
    return Device(id=gpu.uuid, index=gpu.index, name=gpu.name, total=total, usable_bytes=usable, cause=cause)
