"""The check that CUDA really starts, and what its errors mean. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from selfhost.doctor.facts import CudaAnswer, Facts, NotLooked
from selfhost.doctor.finding import Verdict, blocking, fine, warning
from selfhost.doctor.gpus import count
from selfhost.hardware.inventory import Gpu
from selfhost.units import format_duration

_INSIDE = "in a container: start it with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility"

# CUresult of cuInit (cuda.h), where it means something particular: the sentence, and what to do.
_CUDA: Mapping[int, tuple[str, str]] = {
    100: ("no device (CUDA error 100)", "CUDA_VISIBLE_DEVICES or the container hides them all; try: nvidia-smi -L"),
    802: (
        "the system is not yet initialised (CUDA error 802): on NVSwitch machines the fabric manager must run",
        "sudo systemctl enable --now nvidia-fabricmanager",
    ),
    803: (
        "the driver in the kernel and libcuda differ in version (CUDA error 803)",
        "sudo reboot  # in a container: restart it, and remove a libcuda of its own (cuda-compat)",
    ),
    804: (
        "this GPU does not run a CUDA newer than its driver (CUDA error 804): a cuda-compat package is in the way",
        "sudo apt-get remove 'cuda-compat-*'  # or install a newer driver",
    ),
    34: ("the libcuda that was found is the toolkit's stub (CUDA error 34)", "unset LD_LIBRARY_PATH"),
    304: ("the operating system refuses it (CUDA error 304)", "ls -l /dev/nvidia*; sudo modprobe nvidia_uvm"),
    999: ("an unknown error (CUDA error 999)", "sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm  # or reboot"),
}


class Cuda(NamedTuple):
    """What libcuda says, and what NVML says there is."""

    answer: CudaAnswer
    gpus: tuple[Gpu, ...]


class CudaFailure(NamedTuple):
    """Why CUDA does not start."""

    sentence: str
    fix: str


def cuda_of(facts: Facts) -> Cuda | NotLooked | None:
    """What `cuda_init` is about; None without a GPU that works."""
    if not facts.inventory.gpus or facts.cuda is None:
        return None
    return facts.cuda if isinstance(facts.cuda, NotLooked) else Cuda(facts.cuda, facts.inventory.gpus)


def cuda_init(cuda: Cuda) -> Iterator[Verdict]:
    """A real start of CUDA: NVML can answer where libcuda does not."""
    answer, gpus = cuda
    if answer.seconds is not None:
        yield warning(
            f"CUDA was still starting after {format_duration(answer.seconds)}: without persistence mode the driver "
            "wakes up anew for every program",
            fix="sudo nvidia-smi -pm 1",
        )
    elif answer.code is None:
        yield blocking(
            f"NVML sees {count(gpus)}, but libcuda.so.1 cannot be loaded: {answer.error}",
            fix=f"docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility ...  # {_INSIDE}",
        )
    elif answer.code:
        known = cuda_failure(answer.code)
        yield blocking(f"NVML sees {count(gpus)}, but CUDA does not start: {known.sentence}", fix=known.fix)
    else:
        # A process sees one MIG device at most, however many there are (NVIDIA MIG user guide).
        expected = sum(1 for gpu in gpus if gpu.mig is None) or 1
        found = answer.device_count or 0
        if found < expected:
            yield (warning if found else blocking)(
                f"CUDA starts with {found} of the {expected} GPUs that NVML sees",
                fix="ls -l /dev/nvidia*  # one device node per GPU; a container sees those it was started with",
            )
        else:
            yield fine(f"CUDA starts, with {found} device{'s' if found != 1 else ''}")


def cuda_failure(code: int) -> CudaFailure:
    """What the error `code` of CUDA (cuda.h: CUresult; the runtime's numbers are the same) means here."""
    return CudaFailure(*_CUDA.get(code, (f"CUDA error {code}", "sudo dmesg | grep -e NVRM -e Xid")))
