"""The check that CUDA really starts. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from selfhost.doctor.container import on_host
from selfhost.doctor.cuda_errors import OUT_OF_MEMORY, cuda_failure, unloadable
from selfhost.doctor.facts import CudaAnswer, Facts, NotLooked
from selfhost.doctor.finding import Verdict, blocking, fine, warning
from selfhost.doctor.gpus import count
from selfhost.hardware.inventory import Gpu, Host
from selfhost.units import format_duration


class Cuda(NamedTuple):
    """What libcuda says, and what NVML says there is."""

    answer: CudaAnswer
    gpus: tuple[Gpu, ...]
    host: Host


def cuda_of(facts: Facts) -> Cuda | NotLooked | None:
    """What `cuda_init` is about; None without a GPU that works."""
    if not facts.inventory.gpus or facts.cuda is None:
        return None
    return (
        facts.cuda
        if isinstance(facts.cuda, NotLooked)
        else Cuda(facts.cuda, facts.inventory.gpus, facts.inventory.host)
    )


def cuda_init(cuda: Cuda) -> Iterator[Verdict]:
    """A real start of CUDA: NVML can answer where libcuda does not."""
    answer, gpus, host = cuda
    if answer.seconds is not None:
        yield warning(
            f"CUDA was still starting after {format_duration(answer.seconds)}: without persistence mode the driver "
            "wakes up anew for every program",
            fix=on_host(host, "sudo nvidia-smi -pm 1"),
        )
    elif answer.code is None:
        yield blocking(
            f"NVML sees {count(gpus)}, but libcuda.so.1 cannot be loaded: {answer.error}",
            fix=unloadable(host),
        )
    elif answer.code:
        known = cuda_failure(answer.code, host)
        # engines of ours, or somebody else, hold the memory: that says nothing about CUDA
        say = warning if answer.code == OUT_OF_MEMORY else blocking
        yield say(f"NVML sees {count(gpus)}, but CUDA does not start: {known.sentence}", fix=known.fix)
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
