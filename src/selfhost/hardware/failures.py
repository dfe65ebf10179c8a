"""What goes wrong between us and a GPU: for each way a sentence and the next step. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from selfhost.hardware.inventory import Accelerator
from selfhost.units import format_duration


class NvmlError(IntEnum):
    """NVML's error numbers that mean something particular to us (nvml.h: nvmlReturn_t)."""

    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIBRARY_VERSION_MISMATCH = 18
    GPU_NOT_FOUND = 28
    UNKNOWN = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why GPUs cannot be used, and what to do about it."""

    cause: str
    hint: str


_SICK_OR_ASLEEP = (
    "try `nvidia-smi`: if it hangs too, a GPU is sick (`sudo dmesg | grep Xid` says which; reboot); if it is only "
    "slow, `sudo nvidia-smi -pm 1` keeps the driver awake"
)

# What `nvml_query.py` asks about a GPU, where its own word for it is not a person's.
_ASKED: Mapping[str, str] = {
    "handle": "to open it",
    "link": "how it is linked to another GPU",
    "ecc_mode": "for its ECC mode",
    "ecc_uncorrected_errors": "for its ECC errors",
    "mig_devices": "for its MIG devices",
    "mig_mode": "for its MIG mode",
    "nvlinks": "for its NVLinks",
    "pci_bus_id": "for its PCI address",
    "power_default_milliwatts": "for its default power limit",
    "power_limit_milliwatts": "for its power limit",
    "uuid": "for its UUID",
}

# Errors of nvmlInit that are also what a machine without any NVIDIA GPU gives.
MAY_MEAN_NO_GPU = (NvmlError.DRIVER_NOT_LOADED, NvmlError.LIBRARY_NOT_FOUND, NvmlError.GPU_NOT_FOUND)

_IN_A_CONTAINER = "in a container: start it with `--gpus all` (Docker) or the nvidia runtime class (Kubernetes)"

# Errors of nvmlInit: NVML tells nothing about any GPU.
_OF_DRIVER: Mapping[int, Failure] = {
    NvmlError.NO_PERMISSION: Failure(
        cause="this user may not talk to the NVIDIA driver",
        hint="`ls -l /dev/nvidia*` shows who may: join that group (`sudo usermod -aG video $USER`, then log in again); "
        "in a container, start it with `--gpus all`",
    ),
    NvmlError.DRIVER_NOT_LOADED: Failure(
        cause="the NVIDIA driver is not loaded",
        hint="load it with `sudo modprobe nvidia`; if that fails, install the driver for this kernel and reboot "
        "(in a container: on its host)",
    ),
    NvmlError.LIBRARY_NOT_FOUND: Failure(
        cause="there is an NVIDIA GPU, but not its driver's library libnvidia-ml.so.1",
        hint=f"{_IN_A_CONTAINER}; on the machine itself: install the NVIDIA driver and reboot",
    ),
    NvmlError.GPU_NOT_FOUND: Failure(
        cause="there is an NVIDIA GPU, but the NVIDIA driver lists none",
        hint=f"{_IN_A_CONTAINER}; on the machine itself: `sudo dmesg | grep NVRM` says why the driver does not take it",
    ),
    NvmlError.LIBRARY_VERSION_MISMATCH: Failure(
        cause="the NVIDIA driver in the kernel and its library differ in version: it was upgraded while loaded",
        hint="reboot; or stop what uses the GPUs and reload it: `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset "
        "nvidia && sudo modprobe nvidia` (in a container: on its host, then restart the container)",
    ),
    NvmlError.UNKNOWN: Failure(
        cause="the NVIDIA driver answers with an unknown error",
        hint="in a container: a `systemctl daemon-reload` on the host takes the GPUs away; restart the container, and "
        "start it with `--device nvidia.com/gpu=all` (CDI) to keep them; on the machine itself: "
        "`sudo dmesg | grep -e NVRM -e Xid`, then reboot",
    ),
}

# Errors of one GPU while the driver answers.
_OF_GPU: Mapping[int, Failure] = {
    NvmlError.NO_PERMISSION: Failure(
        cause="{gpu} may not be used by this user or container",
        hint="`ls -l /dev/nvidia*` shows who may; a container sees only the GPUs that it was started with",
    ),
    NvmlError.GPU_IS_LOST: Failure(
        cause="{gpu} is lost: it has fallen off the bus",
        hint="`sudo dmesg | grep Xid` says why; reboot, and if it happens again power the machine off and on, "
        "or have the GPU replaced",
    ),
    NvmlError.RESET_REQUIRED: Failure(
        cause="{gpu} must be reset before it can be used again",
        hint="stop what uses it, then `sudo nvidia-smi --gpu-reset{select}`, or reboot",
    ),
    NvmlError.UNKNOWN: Failure(
        cause="{gpu} answers with an unknown error",
        hint="`sudo dmesg | grep -e NVRM -e Xid` says more; reset it (`sudo nvidia-smi --gpu-reset{select}`) or reboot",
    ),
}


def of_driver(code: int, text: str) -> Failure:
    """NVML did not start, and said `code` and `text`."""
    if code in _OF_DRIVER:
        return _OF_DRIVER[code]
    if code in _OF_GPU:  # one GPU can keep the driver from answering for all
        return _name_gpu(_OF_GPU[code], "a GPU", select="")
    return Failure(
        cause=f"the NVIDIA driver does not answer: {text.rstrip('.')} (NVML error {code})",
        hint="see whether `nvidia-smi` says more, and `sudo dmesg | grep -e NVRM -e Xid`",
    )


def of_gpu(index: int, code: int, text: str, *, mig: int | None = None) -> Failure:
    """The driver answers, but for the GPU `index`, or its MIG device `mig`, with `code` and `text`."""
    gpu = f"GPU {index}" if mig is None else f"MIG device {mig} of GPU {index}"
    if code in _OF_GPU:
        return _name_gpu(_OF_GPU[code], gpu, select=f" -i {index}")
    return Failure(
        cause=f"{gpu} cannot be queried: {text.rstrip('.')} (NVML error {code})",
        hint=f"see whether `nvidia-smi -i {index}` says more, and `sudo dmesg | grep -e NVRM -e Xid`",
    )


def _name_gpu(template: Failure, gpu: str, *, select: str) -> Failure:
    return Failure(cause=template.cause.format(gpu=gpu), hint=template.hint.format(select=select))


def hang(seconds: float) -> Failure:
    """NVML did not start in time."""
    return Failure(cause=f"the NVIDIA driver did not answer within {format_duration(seconds)}", hint=_SICK_OR_ASLEEP)


def hang_of_gpu(index: int, question: str) -> Failure:
    """NVML answered nothing more about the GPU `index` after it was asked `question` (`nvml_query.py`)."""
    asked = _ASKED.get(question, f"for its {question.replace('_', ' ')}")
    return Failure(cause=f"GPU {index} does not answer: the driver hangs when asked {asked}", hint=_SICK_OR_ASLEEP)


def crash(last_words: str) -> Failure:
    """The process that asks NVML ended without an answer."""
    return Failure(
        cause=f"the NVIDIA driver's library failed: {last_words}",
        hint="`python -m selfhost.hardware.nvml_query` shows all of it; see whether `nvidia-smi` works",
    )


def empty_mig(index: int) -> Failure:
    """The GPU is in MIG mode, and nobody has made a MIG device of it; those that there were are gone after a reboot."""
    return Failure(
        cause=f"GPU {index} is in MIG mode and has no MIG device",
        hint=f"make one (`sudo nvidia-smi mig -i {index} -lgip` lists the profiles, `sudo nvidia-smi mig -i {index} "
        f"-cgi PROFILE -C` creates one), or make the GPU whole again: `sudo nvidia-smi -i {index} -mig 0` "
        "(in a container: on its host)",
    )


def old_jetson() -> Failure:
    """NVML is a part of JetPack since version 6."""
    return Failure(
        cause="this Jetson has no NVML: its JetPack is older than 6",
        hint="update it to JetPack 6 or newer (Jetson Linux 36); vLLM needs that too",
    )


def hidden(visible_devices: str) -> Failure:
    """CUDA_VISIBLE_DEVICES leaves nothing."""
    return Failure(
        cause=f'CUDA_VISIBLE_DEVICES="{visible_devices}" hides every GPU',
        hint="unset it, or give it indices or UUIDs as `nvidia-smi -L` lists them",
    )


def all_unusable(causes: Sequence[Failure]) -> Failure:
    """There are GPUs, and each of them fails: the first one speaks for the rest."""
    first, *others = causes
    return Failure(cause=f"{first.cause} ({len(others)} more fail too)", hint=first.hint) if others else first


def foreign(accelerators: Sequence[Accelerator]) -> Failure:
    """There are accelerators, and none of them is NVIDIA's."""
    counts = sorted(Counter(accelerator.vendor for accelerator in accelerators).items())
    found = " and ".join(f"{count} {vendor} accelerator{'s' if count > 1 else ''}" for vendor, count in counts)
    return Failure(
        cause=f"this machine has {found}, and selfhost runs models on NVIDIA GPUs or on the CPU",
        hint="take a machine with an NVIDIA GPU; the built-in model runs on the CPU here when models.yaml names it",
    )
