"""CUDA_VISIBLE_DEVICES as CUDA reads it: to plan on a GPU that no engine will see would be a plan that fails."""

from collections.abc import Sequence
from typing import TypeVar

from selfhost.hardware.inventory import Gpu, UnusableGpu

AnyGpu = TypeVar("AnyGpu", bound=Gpu | UnusableGpu)


def select_visible(gpus: Sequence[AnyGpu], visible_devices: str | None) -> tuple[AnyGpu, ...]:
    """Those of `gpus` that the variable's value shows, in its order; None means that it is not set.

    As in CUDA's programming guide: entries are indices or beginnings of UUIDs; an entry that names no GPU, or more
    than one, hides all that come after it; a GPU named twice hides all. Indices are taken in the order of the PCI bus,
    which is NVML's and nvidia-smi's, because engines are started with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if visible_devices is None:
        return tuple(gpus)
    chosen: list[AnyGpu] = []
    for entry in visible_devices.split(","):
        named = [gpu for gpu in gpus if _names(entry.strip(), gpu)]
        if len(named) != 1:
            break
        if named[0] in chosen:
            return ()
        chosen.append(named[0])
    return tuple(chosen)


def _names(entry: str, gpu: Gpu | UnusableGpu) -> bool:
    if entry.isdecimal():
        return gpu.index == int(entry)
    return entry.startswith("GPU-") and (gpu.uuid or "").startswith(entry)
