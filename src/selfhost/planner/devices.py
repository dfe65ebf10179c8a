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
    """One GPU, one MIG device of a GPU, or the host of a CPU box."""

    id: str  # the UUID, or "host"
    label: str  # for people: `Gpu.label`, or "host"
    position: tuple[int, int] = (0, 0)  # the order in which devices are taken
    name: str | None
    total: Figure
    usable_bytes: int  # of the total, what nobody else holds
    cause: str  # why it is not all of it, "" when it is
    batch_bytes: int  # what the engine takes for its memory when it chooses its batch limits
    mig: bool = False
    unified_memory: bool = False  # its memory is the host's


def devices(inventory: Inventory, platform: Platform) -> tuple[Device, ...]:
    """The devices that engines may be placed on; a GPU whose memory is unknown is none."""
    if platform is Platform.CPU:
        host = inventory.host
        total = Figure(bytes=host.memory_total_bytes, basis=Basis.MEASURED, note="memory of the host")
        return (
            Device(
                id=HOST,
                label=HOST,
                name=None,
                total=total,
                usable_bytes=host.memory_available_bytes,
                batch_bytes=host.memory_total_bytes,
                cause="what other processes leave",
            ),
        )
    return tuple(device for gpu in inventory.gpus if (device := _from_gpu(gpu)))


def _from_gpu(gpu: Gpu) -> Device | None:
    if gpu.memory_total_bytes is None:
        return None
    note = "memory of the host, which the GPU uses" if gpu.unified_memory else "NVML"
    total = Figure(bytes=gpu.memory_total_bytes, basis=Basis.MEASURED, note=note)
    usable, cause = gpu.memory_total_bytes, ""
    if gpu.memory_free_bytes is not None and gpu.memory_free_bytes - CONTEXT_BYTES < usable:
        usable = max(0, gpu.memory_free_bytes - CONTEXT_BYTES)
        cause = "what other processes and the CUDA context leave"
    return Device(
        id=gpu.uuid,
        label=gpu.label,
        # One MIG device of each card before the second one of any. It spreads the load, and vLLM 0.32 is the surer to
        # start: it takes the number of a MIG device on its card for the number of a card (`platforms/cuda.py:
        # device_control_id_to_physical_device_id`), and fails where there are not that many.
        position=(gpu.mig.index if gpu.mig else 0, gpu.index),
        name=gpu.name,
        total=total,
        usable_bytes=usable,
        cause=cause,
        batch_bytes=_batch_bytes(gpu, gpu.memory_total_bytes),
        mig=gpu.mig is not None,
        unified_memory=gpu.unified_memory,
    )


def _batch_bytes(gpu: Gpu, total_bytes: int) -> int:
    """As vLLM asks NVML for it (0.32 `platforms/cuda.py:get_device_total_memory`).

    For a MIG device that gives the memory of a whole card, and for unified memory nothing, which counts as 0
    (`engine/arg_utils.py:get_batch_defaults`).
    """
    if gpu.unified_memory:
        return 0
    return gpu.mig.card_memory_total_bytes or total_bytes if gpu.mig else total_bytes
