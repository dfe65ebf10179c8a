"""What is there: the PCI bus, NVML and the host, put together into one Inventory."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from selfhost import paths
from selfhost.hardware import failures, nvidia, pci
from selfhost.hardware.disks import read_disks
from selfhost.hardware.failures import Failure, NvmlError
from selfhost.hardware.host import read_host
from selfhost.hardware.inventory import Accelerator, Gpu, Host, Inventory, UnusableGpu
from selfhost.hardware.jetson import is_jetson
from selfhost.hardware.nvml_answer import NvmlAnswer
from selfhost.hardware.surroundings import Surroundings, add, read_surroundings
from selfhost.hardware.visible import ORDER_OF_PCI, ambiguous_order, first_ignored, select_visible


def detect(
    *,
    silence_seconds: float = nvidia.SILENCE_SECONDS,
    root: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Inventory:
    """Look at this machine; never raises for what it finds, and waits `silence_seconds` for a driver that hangs.

    `root` is the folder in which /sys, /proc, /dev and /etc are looked up: `$SELFHOST_HOST_ROOT`, else `/`.
    """
    root = root or Path(environ.get("SELFHOST_HOST_ROOT") or "/")
    accelerators = pci.read_accelerators(root)
    jetson = is_jetson(root)
    nvidia_present = jetson or any(found.vendor == "NVIDIA" for found in accelerators) or pci.nvidia_device_nodes(root)
    answer = NvmlAnswer()  # asking costs a process, so only where there may be an answer
    if nvidia_present or nvidia.library_installed(root, environ):
        answer = nvidia.ask(silence_seconds=silence_seconds, environ=environ)
    if jetson and answer.error_code == NvmlError.LIBRARY_NOT_FOUND:
        answer = replace(answer, failure=failures.old_jetson())
    host = read_host(root, environ)
    inventory = assemble(
        host=host,
        accelerators=accelerators,
        nvidia_present=nvidia_present,
        answer=answer,
        surroundings=read_surroundings(root, answer.gpus) if answer.gpus else Surroundings(),
        visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        device_order=environ.get("CUDA_DEVICE_ORDER"),
    )
    places = (
        ("engines", paths.home_dir()),
        ("weights", paths.hub_cache_dir()),
        ("state", paths.state_root()),
        ("runtime", paths.runtime_root()),
    )
    disks = read_disks(places, root=root, container=host.container)
    return replace(inventory, disks=disks.found, silent_disks=disks.silent)


def assemble(
    *,
    host: Host,
    accelerators: Sequence[Accelerator],
    nvidia_present: bool,
    answer: NvmlAnswer,
    visible_devices: str | None,
    device_order: str | None = None,
    surroundings: Surroundings | None = None,
) -> Inventory:
    """Put together what was found; `nvidia_present` says that an NVIDIA GPU is there whether or not NVML lists it."""
    visible = select_visible(answer.gpus, visible_devices)
    gpus = tuple(add(surroundings or Surroundings(), gpu) for gpu in visible if isinstance(gpu, Gpu))
    uuids = {gpu.uuid for gpu in gpus}
    unusable = tuple(add(surroundings or Surroundings(), gpu) for gpu in visible if isinstance(gpu, UnusableGpu))
    problem = None
    if not gpus:
        problem = _why_none(answer, unusable, accelerators, visible_devices, nvidia_present=nvidia_present)
    warnings = []
    if gpus and ambiguous_order(answer.gpus, visible_devices, device_order):
        warnings.append(
            f'CUDA_VISIBLE_DEVICES="{visible_devices}" is read in the order of nvidia-smi; other CUDA programs count '
            f"from the fastest GPU on unless CUDA_DEVICE_ORDER={ORDER_OF_PCI} is set"
        )
    return Inventory(
        host=host,
        gpus=gpus,
        links=tuple(link for link in answer.links if {link.first, link.second} <= uuids),
        driver_version=answer.driver_version,
        cuda_version=answer.cuda_version,
        accelerators=tuple(accelerators),
        problem=problem.cause if problem else None,
        hint=problem.hint if problem else None,
        unusable_gpus=unusable,
        hidden_gpu_count=len(answer.gpus) - len(visible),
        ignored_visible_device=first_ignored(answer.gpus, visible_devices),
        warnings=tuple(warnings),
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
