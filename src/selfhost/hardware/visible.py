"""CUDA_VISIBLE_DEVICES as CUDA reads it: to plan on a GPU that no engine will see would be a plan that fails. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from selfhost.hardware.inventory import Gpu, UnusableGpu

AnyGpu = TypeVar("AnyGpu", bound=Gpu | UnusableGpu)

ORDER_OF_PCI = "PCI_BUS_ID"  # CUDA_DEVICE_ORDER; every other value means "fastest first" to CUDA


def select_visible(gpus: Sequence[AnyGpu], visible_devices: str | None) -> tuple[AnyGpu, ...]:
    """Those of `gpus` that the variable's value shows, in its order; None means that it is not set.

    As in CUDA's programming guide: entries are indices or beginnings of UUIDs; an entry that names no GPU, or more
    than one, hides all that come after it; a GPU named twice hides all. Indices are taken in the order of the PCI bus,
    which is NVML's and nvidia-smi's, because engines are started with CUDA_DEVICE_ORDER=PCI_BUS_ID.

    A card in MIG mode stands for all its MIG devices, and several MIG devices all count: CUDA would show a process no
    more than one of them, but each engine is started on one of its own.
    """
    if visible_devices is None:
        return tuple(gpus)
    chosen: list[AnyGpu] = []
    for entry in _entries(visible_devices):
        named = _named(gpus, entry)
        if not named:
            break
        if any(gpu in chosen for gpu in named):
            return ()
        chosen += named
    return tuple(chosen)


def first_ignored(gpus: Sequence[AnyGpu], visible_devices: str | None) -> str | None:
    """The entry of the variable's value that names no GPU, or more than one, and ends what it shows.

    None where there is no such entry, and where it is -1 or empty, which people write to end the list.
    """
    entries = [] if visible_devices is None else _entries(visible_devices)
    ignored = next((entry for entry in entries if not _named(gpus, entry)), None)
    return None if ignored in {"-1", ""} else ignored


def ambiguous_order(gpus: Sequence[Gpu | UnusableGpu], visible_devices: str | None, device_order: str | None) -> bool:
    """Whether other CUDA programs may take other GPUs for the variable's indices than we do.

    With CUDA_DEVICE_ORDER unset CUDA counts from the fastest GPU on (its programming guide), which makes a difference
    where GPUs differ.
    """
    entries = _entries(visible_devices or "")
    return (
        device_order != ORDER_OF_PCI
        and any(entry.isdecimal() for entry in entries)
        and len({_card_name(gpu) for gpu in gpus}) > 1
    )


def _entries(visible_devices: str) -> list[str]:
    return [entry.strip() for entry in visible_devices.split(",")]


def _named(gpus: Sequence[AnyGpu], entry: str) -> list[AnyGpu]:
    """The one card, or its MIG devices, that `entry` names; nothing where that is not one."""
    named = [gpu for gpu in gpus if _names(entry, gpu)]
    one = len({gpu.index for gpu in named}) == 1 and (len(named) == 1 or not entry.startswith("MIG-"))
    return named if one else []


def _names(entry: str, gpu: Gpu | UnusableGpu) -> bool:
    if entry.isdecimal():
        return str(gpu.index) == (entry.lstrip("0") or "0")  # int() refuses thousands of digits
    mig = gpu.mig if isinstance(gpu, Gpu) else None
    if entry.startswith("GPU-"):
        return ((mig.parent_uuid if mig else gpu.uuid) or "").startswith(entry)
    if "/" in entry:  # drivers before 470 named a MIG device MIG-GPU-<UUID of the card>/<GPU instance>/<compute ...>
        return mig is not None and entry == f"MIG-{mig.parent_uuid}/{mig.gpu_instance}/{mig.compute_instance}"
    return entry.startswith("MIG-") and (gpu.uuid or "").startswith(entry)


def _card_name(gpu: Gpu | UnusableGpu) -> str:
    return (gpu.name or "").partition(" MIG ")[0]  # "NVIDIA A100-SXM4-80GB MIG 3g.40gb"
