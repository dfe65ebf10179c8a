"""What is there: the PCI bus, NVML and the host, put together into one Inventory."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from selfhost import paths
from selfhost.hardware import failures, nvidia, pci
from selfhost.hardware.disks import read_disks
from selfhost.hardware.failures import Failure
from selfhost.hardware.host import read_host
from selfhost.hardware.inventory import Accelerator, Gpu, Host, Inventory, UnusableGpu
from selfhost.hardware.nvidia import NvmlAnswer
from selfhost.hardware.visible import select_visible


def detect(
    *, deadline_seconds: float = 10.0, root: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Inventory:
    """Look at this machine; never raises for what it finds, and never waits much longer than `deadline_seconds`.

    `root` is the folder in which /sys, /proc, /dev and /etc are looked up: `$SELFHOST_HOST_ROOT`, else `/`. The
    deadline is generous because a driver without persistence mode takes seconds per GPU to wake up.
    """
    root = root or Path(environ.get("SELFHOST_HOST_ROOT") or "/")
    accelerators = pci.read_accelerators(root)
    nvidia_present = any(found.vendor == "NVIDIA" for found in accelerators) or pci.nvidia_device_nodes(root)
    answer = None  # asking costs a process, so only where there may be an answer
    if nvidia_present or nvidia.library_installed(root, environ):
        answer = nvidia.ask(deadline_seconds=deadline_seconds, environ=environ)
    inventory = assemble(
        host=read_host(root),
        accelerators=accelerators,
        nvidia_present=nvidia_present,
        answer=answer or NvmlAnswer(),
        visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
    )
    places = (("engines", paths.home_dir()), ("weights", paths.hub_cache_dir()))
    return replace(inventory, disks=read_disks(places))


def assemble(
    *,
    host: Host,
    accelerators: Sequence[Accelerator],
    nvidia_present: bool,
    answer: NvmlAnswer,
    visible_devices: str | None,
) -> Inventory:
    """Put together what was found; `nvidia_present` says that an NVIDIA GPU is there whether or not NVML lists it."""
    visible = select_visible(answer.gpus, visible_devices)
    gpus = tuple(gpu for gpu in visible if isinstance(gpu, Gpu))
    unusable = tuple(gpu for gpu in visible if isinstance(gpu, UnusableGpu))
    problem = None
    if not gpus:
        problem = _why_none(answer, unusable, accelerators, visible_devices, nvidia_present=nvidia_present)
    return Inventory(
        host=host,
        gpus=gpus,
        driver_version=answer.driver_version,
        cuda_version=answer.cuda_version,
        accelerators=tuple(accelerators),
        problem=problem.cause if problem else None,
        hint=problem.hint if problem else None,
        unusable_gpus=unusable,
        hidden_gpu_count=len(answer.gpus) - len(visible),
    )


def _why_none(
    answer: NvmlAnswer,
    unusable: Sequence[UnusableGpu],
    accelerators: Sequence[Accelerator],
    visible_devices: str | None,
    *,
    nvidia_present: bool,
) -> Failure | None:
    """Why no GPU can be planned on; None when there is simply no accelerator."""
    if unusable:
        return failures.all_unusable([Failure(cause=gpu.cause, hint=gpu.hint) for gpu in unusable])
    if answer.gpus:
        return failures.hidden(visible_devices or "")
    if answer.failure and (nvidia_present or answer.error_code not in failures.MAY_MEAN_NO_GPU):
        return answer.failure
    foreign = [accelerator for accelerator in accelerators if accelerator.vendor != "NVIDIA"]
    return failures.foreign(foreign) if foreign else None
