"""What the errors of CUDA mean when it is started, and what helps: cuda.h's CUresult, for `cuInit` and torch. Pure.

The runtime's numbers (driver_types.h: cudaError) are the same, except for 35, which only the runtime has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from selfhost.doctor.container import Setting, is_limited, on_host, start_with
from selfhost.hardware.inventory import Host

OUT_OF_MEMORY = 2

_DRIVER_LOG = "sudo dmesg | grep -e NVRM -e Xid"
_RELOAD = "sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm"


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaFailure:
    """Why CUDA does not start."""

    sentence: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    name: str  # in cuda.h
    words: str
    fix: Callable[[Host], str]


def cuda_failure(code: int, host: Host) -> CudaFailure:
    """What the error `code` means on `host`."""
    error = _ERRORS.get(code)
    if error is None:
        return CudaFailure(sentence=f"CUDA error {code}", fix=_DRIVER_LOG)
    return CudaFailure(sentence=f"{error.words} (CUDA error {code}: {error.name})", fix=error.fix(host))


def _always(fix: str) -> Callable[[Host], str]:
    return lambda _: fix


def _mismatch(host: Host) -> str:
    if not is_limited(host):
        return "sudo reboot"
    return (
        "ls -d /usr/local/cuda*/compat  # if there is one, take it out of LD_LIBRARY_PATH; else restart this "
        "container: the driver of its host was changed"
    )


def _too_new(host: Host) -> str:
    remove = "sudo apt-get remove 'cuda-compat-*'; sudo ldconfig"
    if not is_limited(host):
        return f"{remove}  # or install a newer driver"
    return f"{remove}  # or take an image of an older CUDA, or a machine with a newer driver"


def _refused(host: Host) -> str:
    if is_limited(host):
        return "ls -l /dev/nvidia*  # if nvidia-uvm is missing: restart this container, with all its GPUs"
    return "ls -l /dev/nvidia*; sudo modprobe nvidia_uvm"


def _unknown(host: Host) -> str:
    if is_limited(host):
        return f"restart this container; if that does not help: {on_host(host, _RELOAD)}"
    return f"{_RELOAD}  # or reboot"


_ERRORS: Mapping[int, _Error] = {
    1: _Error(
        name="CUDA_ERROR_INVALID_VALUE",
        words="libcuda was given a value that it does not take",
        fix=_always(_DRIVER_LOG),
    ),
    OUT_OF_MEMORY: _Error(
        name="CUDA_ERROR_OUT_OF_MEMORY", words="there is no memory left to start it", fix=_always("nvidia-smi")
    ),
    3: _Error(name="CUDA_ERROR_NOT_INITIALIZED", words="the driver could not be initialised", fix=_always(_DRIVER_LOG)),
    34: _Error(
        name="CUDA_ERROR_STUB_LIBRARY",
        words="the libcuda that was found is the toolkit's stub",
        fix=_always("unset LD_LIBRARY_PATH"),
    ),
    35: _Error(
        name="cudaErrorInsufficientDriver",
        words="the driver is older than this CUDA needs",
        fix=lambda host: on_host(host, "install a newer driver: https://www.nvidia.com/drivers"),
    ),
    46: _Error(
        name="CUDA_ERROR_DEVICE_UNAVAILABLE",
        words="another process has the GPU for itself, or its compute mode forbids it",
        fix=lambda host: on_host(host, "sudo nvidia-smi -c DEFAULT"),
    ),
    100: _Error(
        name="CUDA_ERROR_NO_DEVICE",
        words="no device",
        fix=_always("nvidia-smi -L  # then see whether CUDA_VISIBLE_DEVICES or the container hides them all"),
    ),
    101: _Error(
        name="CUDA_ERROR_INVALID_DEVICE",
        words="a device that is listed cannot be opened",
        fix=_always("ls -l /dev/nvidia*; nvidia-smi -L  # does CUDA_VISIBLE_DEVICES name what is there?"),
    ),
    200: _Error(
        name="CUDA_ERROR_INVALID_IMAGE",
        words="the kernels of this build are not valid for it",
        fix=_always("nvidia-smi"),
    ),
    201: _Error(
        name="CUDA_ERROR_INVALID_CONTEXT", words="no context could be made on the GPU", fix=_always(_DRIVER_LOG)
    ),
    304: _Error(name="CUDA_ERROR_OPERATING_SYSTEM", words="the operating system refuses it", fix=_refused),
    800: _Error(
        name="CUDA_ERROR_NOT_PERMITTED", words="this user or container may not", fix=_always("ls -l /dev/nvidia*; id")
    ),
    801: _Error(
        name="CUDA_ERROR_NOT_SUPPORTED",
        words="this GPU or its driver cannot do it",
        fix=_always("nvidia-smi -q | head -40"),
    ),
    802: _Error(
        name="CUDA_ERROR_SYSTEM_NOT_READY",
        words="the system is not yet initialised: on NVSwitch machines the fabric manager must run",
        fix=lambda host: on_host(host, "sudo systemctl enable --now nvidia-fabricmanager"),
    ),
    803: _Error(
        name="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        words="the driver in the kernel and libcuda differ in version",
        fix=_mismatch,
    ),
    804: _Error(
        name="CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        words="this GPU does not run a CUDA newer than its driver: a cuda-compat package is in the way",
        fix=_too_new,
    ),
    999: _Error(name="CUDA_ERROR_UNKNOWN", words="an unknown error", fix=_unknown),
}


def unloadable(host: Host) -> str | None:
    """What to do where there is no libcuda.so.1."""
    if is_limited(host):
        return start_with(host, Setting.DRIVER_LIBRARIES)
    return (
        "ldconfig -p | grep libcuda.so.1  # none: install the driver's libraries; in a container: start it with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    )
