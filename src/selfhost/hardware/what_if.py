"""A machine that somebody describes in a few words ("8xH100", "cpu,32GiB") becomes an Inventory. Pure."""

import re
from difflib import get_close_matches
from itertools import combinations

from selfhost.hardware.inventory import Gpu, GpuLink, Host, Inventory
from selfhost.hardware.known_gpus import AMBIGUOUS, BY_NAME, KNOWN_GPUS, KnownGpu, normalized
from selfhost.units import GIB, MIB

MOST_GPUS = 64
RESERVED_BYTES = 640 * MIB  # what the driver keeps of an idle card: 0.4 to 0.6 GiB of those that were looked at
CUDA = (13, 0)  # a machine that does not exist has the driver that it needs

_COUNTED = re.compile(r"(?:(\d{1,6})\s*[x×*]\s*)?(.+)", re.IGNORECASE)
_BYTES = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(GiB|TiB|GB|TB)", re.IGNORECASE)
_UNITS = {"gib": GIB, "tib": 1024 * GIB, "gb": 10**9, "tb": 10**12}
_GRAMMAR = "write [COUNTx]GPU[+...][,MEMORY] as in 8xH100 or 2xRTX4090,64GiB, or cpu,32GiB"


class SpecError(ValueError):
    """What was written describes no machine; the text is a sentence that says how to write it."""


def parse(spec: str) -> Inventory:
    """The machine that `spec` describes, idle and with nothing else on it; raises `SpecError`.

    The host's memory, where it is not said, is as much as its GPUs have.
    """
    hardware, *rest = (part.strip() for part in spec.split(","))
    if len(rest) > 1:
        raise SpecError(f"'{spec}' says more than GPUs and memory: {_GRAMMAR}")
    memory = _memory(rest[0]) if rest else None
    if hardware.casefold() == "cpu":
        if memory is None:
            raise SpecError("a machine without a GPU is planned by its memory: write cpu,32GiB")
        return Inventory(host=_host(memory), what_if=True)
    known = [gpu for part in hardware.split("+") for gpu in _counted(part.strip())]
    if len(known) > MOST_GPUS:
        raise SpecError(f"'{hardware}' is more than {MOST_GPUS} GPUs, and one machine has no more")
    if any(gpu.unified for gpu in known) and len(known) > 1:
        raise SpecError(f"'{hardware}': a GPU that takes the host's memory is alone in its machine")
    memory = memory or sum(gpu.memory_bytes for gpu in known)
    gpus = tuple(_gpu(index, gpu, memory) for index, gpu in enumerate(known))
    pairs = combinations(zip(gpus, known, strict=True), 2)
    return Inventory(
        host=_host(memory, known[0].architecture),
        gpus=gpus,
        links=tuple(_link(first, second) for first, second in pairs),
        cuda_version=CUDA,
        what_if=True,
    )


def _counted(part: str) -> list[KnownGpu]:
    """The GPUs of "8xH100"."""
    match = _COUNTED.fullmatch(part)
    if match is None:
        raise SpecError(f"a GPU is missing: {_GRAMMAR}")
    count = int(match[1] or 1)
    if not 1 <= count <= MOST_GPUS:
        raise SpecError(f"'{part}': the number of GPUs is from 1 to {MOST_GPUS}")
    return [_find(match[2].strip())] * count


def _find(name: str) -> KnownGpu:
    wanted = normalized(name)
    if gpu := BY_NAME.get(wanted):
        return gpu
    if sizes := AMBIGUOUS.get(wanted):
        raise SpecError(f"'{name}' comes with different memory: write {' or '.join(sizes)}")
    near = dict.fromkeys(BY_NAME[close].spelling for close in get_close_matches(wanted, BY_NAME, n=4, cutoff=0.5))
    known = f"near it: {', '.join(near)}" if near else ", ".join(gpu.spelling for gpu in KNOWN_GPUS)
    raise SpecError(f"no GPU '{name}' is known ({known}); {_GRAMMAR}")


def _memory(text: str) -> int:
    match = _BYTES.fullmatch(text)
    if match is None:
        raise SpecError(f"'{text}' is no amount of memory: {_GRAMMAR}")
    count = int(float(match[1]) * _UNITS[match[2].casefold()])
    if not GIB <= count <= 1024 * 1024 * GIB:
        raise SpecError(f"'{text}': the memory of a machine is from 1 GiB to 1024 TiB")
    return count


def _host(memory_bytes: int, architecture: str = "x86_64") -> Host:
    return Host(
        architecture=architecture, cpu_count=1, memory_total_bytes=memory_bytes, memory_available_bytes=memory_bytes
    )


def _gpu(index: int, known: KnownGpu, host_bytes: int) -> Gpu:
    total = host_bytes if known.unified else known.memory_bytes
    return Gpu(
        index=index,
        uuid=f"what-if-{index}",
        name=known.name,
        memory_total_bytes=total,
        memory_free_bytes=total - RESERVED_BYTES,
        compute_capability=known.compute_capability,
        pci_bus_id=None,
        unified_memory=known.unified,
    )


def _link(first: tuple[Gpu, KnownGpu], second: tuple[Gpu, KnownGpu]) -> GpuLink:
    same = first[1] is second[1]
    nvlinks = first[1].nvlinks if same else 0
    return GpuLink(
        first=first[0].uuid,
        second=second[0].uuid,
        pci_path=None,
        nvlink_count=nvlinks,
        peer_access=True if nvlinks else None,
    )
