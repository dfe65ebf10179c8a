"""Checks of the GPUs and of the driver. Pure."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from selfhost.demo import VARIANTS
from selfhost.doctor.facts import CudaAnswer, Facts, NotLooked
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning
from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.units import GIB, format_bytes, format_duration

# What a driver keeps of a GPU for itself is below this (0.4 to 0.6 GiB where it is counted as used at all).
HELD_BYTES = GIB

# Which Xids mean what (docs.nvidia.com/deploy/xid-errors). The others in a log are mostly errors of programs.
_BROKEN = {
    48: "a double-bit memory error",
    74: "an NVLink error",
    79: "it fell off the bus",
    95: "an uncontained memory error",
    119: "its firmware (GSP) did not answer",
    120: "its firmware (GSP) failed",
}
_WORN = {63: "memory rows to be replaced", 64: "memory rows that could not be replaced", 94: "a contained memory error"}

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


def driver(facts: Facts) -> Iterator[Verdict]:
    """There are GPUs, or there is none; what lies between keeps everything from being served on them."""
    inventory = facts.inventory
    if inventory.problem:
        # The built-in model, asked for by name, runs on the CPU of such a box.
        needed = facts.manifest is None or any(model.source not in VARIANTS for model in facts.manifest.models)
        yield (blocking if needed else warning)(inventory.problem, fix=inventory.hint)
    elif inventory.gpus:
        cuda = ".".join(map(str, inventory.cuda_version)) if inventory.cuda_version else "unknown"
        yield fine(f"{_count(inventory.gpus)}, driver {inventory.driver_version or 'unknown'}, CUDA {cuda} or older")
    else:
        yield fine("no GPU: models run on the CPU")


def unusable(inventory: Inventory) -> Iterator[Verdict]:
    """GPUs that fail beside others that work."""
    if not inventory.gpus:  # then `driver` says it
        return
    for gpu in inventory.unusable_gpus:
        yield warning(f"left out: {gpu.cause}", fix=gpu.hint)
    if not inventory.unusable_gpus:
        yield fine("every GPU that the driver lists can be used")


def mig_numbers(inventory: Inventory) -> Iterator[Verdict]:
    """MIG devices on which vLLM 0.32 should not start, as its source reads.

    It takes the number of a MIG device on its card for the number of a card (`platforms/cuda.py:
    device_control_id_to_physical_device_id`, by nvmlDeviceGetIndex), and asks NVML about that card.
    """
    slices = [gpu for gpu in inventory.gpus if gpu.mig]
    known = {gpu.index for gpu in inventory.gpus} | {gpu.index for gpu in inventory.unusable_gpus}
    least = max(known, default=-1) + 1
    cards = least + inventory.hidden_gpu_count  # at most: MIG devices that are hidden count there, too
    lost = [gpu for gpu in slices if gpu.mig and gpu.mig.index >= cards]
    if lost:
        safe = ",".join(gpu.uuid for gpu in inventory.gpus if gpu not in lost)
        labels = ", ".join(gpu.label for gpu in lost)
        yield warning(
            f"engines may not start on MIG device {labels}: vLLM takes its number for that of a card, and there "
            f"{'is 1' if cards == 1 else f'are {cards}'}",
            fix=f"export CUDA_VISIBLE_DEVICES={safe}" if safe else None,
        )
    elif slices and all(gpu.mig and gpu.mig.index < least for gpu in slices):
        yield fine(f"engines can start on {_count(tuple(slices))}")


def visibility(facts: Facts) -> Iterator[Verdict]:
    """CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER."""
    visible = facts.environ.get("CUDA_VISIBLE_DEVICES")
    if not facts.inventory.gpus:
        return
    if visible is None:
        yield fine("CUDA_VISIBLE_DEVICES is not set")
        return
    shown = [gpu.label for gpu in facts.inventory.gpus]
    named = [entry.strip() for entry in visible.split(",")]
    hidden = facts.inventory.hidden_gpu_count
    if len(named) > len(shown) + len(facts.inventory.unusable_gpus):
        first = named[len(shown) + len(facts.inventory.unusable_gpus)]
        yield warning(
            f'CUDA_VISIBLE_DEVICES="{visible}" names {len(named)} GPUs and shows {len(shown)}: "{first}" names none, '
            "or more than one, and CUDA ignores it and all after it",
            fix="nvidia-smi -L",
        )
    elif hidden:
        yield note(f'CUDA_VISIBLE_DEVICES="{visible}" hides {hidden} of {hidden + len(shown)} GPUs')
    else:
        yield fine(f'CUDA_VISIBLE_DEVICES="{visible}" hides none')
    order = facts.environ.get("CUDA_DEVICE_ORDER")
    if order != "PCI_BUS_ID" and any(entry.isdecimal() for entry in named) and _differ(facts.inventory.gpus):
        yield note(
            "the GPUs differ, and other CUDA programs count them fastest first: here and in engines the indices of "
            "CUDA_VISIBLE_DEVICES follow the PCI bus, as in nvidia-smi",
            fix="export CUDA_DEVICE_ORDER=PCI_BUS_ID",
        )


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
            f"NVML sees {_count(gpus)}, but libcuda.so.1 cannot be loaded: {answer.error}",
            fix=f"docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility ...  # {_INSIDE}",
        )
    elif answer.code:
        known = cuda_failure(answer.code)
        yield blocking(f"NVML sees {_count(gpus)}, but CUDA does not start: {known.sentence}", fix=known.fix)
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


def memory_errors(inventory: Inventory) -> Iterator[Verdict]:
    """ECC errors and rows of memory that are to be replaced."""
    known = [gpu for gpu in inventory.gpus if gpu.ecc_enabled is not None or gpu.row_remap_pending is not None]
    healthy = True
    for gpu in known:
        if gpu.row_remap_failed:
            healthy = False
            yield warning(f"GPU {gpu.label} has memory rows that cannot be replaced any more: have it replaced")
        elif gpu.row_remap_pending:
            healthy = False
            yield warning(
                f"GPU {gpu.label} has broken memory rows that are replaced at its next reset",
                fix=f"selfhost down; sudo nvidia-smi --gpu-reset -i {gpu.index}",
            )
        if gpu.ecc_uncorrected_errors:
            healthy = False
            yield warning(
                f"GPU {gpu.label} has {gpu.ecc_uncorrected_errors} uncorrected memory errors since its driver was "
                "loaded: engines on it crash or answer wrongly",
                fix=f"selfhost down; sudo nvidia-smi --gpu-reset -i {gpu.index}",
            )
    if known and healthy:
        yield fine("no uncorrected memory error on any GPU")


def xids(inventory: Inventory) -> Iterator[Verdict]:
    """What the kernel's log says about the GPUs since it booted."""
    for gpu in inventory.gpus:
        broken = [f"Xid {xid} ({_BROKEN[xid]})" for xid in dict.fromkeys(gpu.xids) if xid in _BROKEN]
        worn = [f"Xid {xid} ({_WORN[xid]})" for xid in dict.fromkeys(gpu.xids) if xid in _WORN]
        if broken or worn:
            yield warning(
                f"GPU {gpu.label}: the kernel's log has {', '.join([*broken, *worn])}",
                fix="sudo dmesg | grep Xid  # then reset the GPU or reboot; if it comes back, have it replaced",
            )
        elif gpu.xids:
            numbers = ", ".join(str(xid) for xid in dict.fromkeys(gpu.xids))
            yield note(f"GPU {gpu.label}: the kernel's log has Xid {numbers}, which programs cause")


def power(inventory: Inventory) -> Iterator[Verdict]:
    """GPUs that may draw less than they were made for."""
    known = [
        (gpu.power_limit_watts, gpu.power_default_watts, gpu.label)
        for gpu in inventory.gpus
        if gpu.power_limit_watts and gpu.power_default_watts and gpu.mig is None
    ]
    capped = sorted(each for each in known if each[0] < each[1])
    for (limit, default), group in groupby(capped, key=lambda each: each[:2]):
        labels = ",".join(label for _, _, label in group)
        yield note(
            f"GPU {labels}: power is capped at {limit} W of {default} W, and it computes slower",
            fix=f"sudo nvidia-smi -i {labels} -pl {default}",
        )
    if known and not capped:
        yield fine("no GPU's power is capped")


def peer_access(facts: Facts) -> Iterator[Verdict]:
    """Whether GPUs can read each other's memory without the host's."""
    links = [link for link in facts.inventory.links if link.peer_access is not None]
    without = [link for link in links if not link.peer_access]
    if without:
        split = [each.name for each in facts.deployments if each.tensor_parallel_size > 1]
        labels = {gpu.uuid: gpu.label for gpu in facts.inventory.gpus}
        pairs = [f"{labels.get(link.first, '?')}-{labels.get(link.second, '?')}" for link in without]
        shown = ", ".join(pairs[:4]) + (f" and {len(pairs) - 4} more" if len(pairs) > 4 else "")
        who = f"{len(pairs)} of {len(links)} pairs of GPUs ({shown})" if len(links) > 1 else f"the GPUs {shown}"
        yield (warning if split else note)(
            f"{who} have no peer access: a model split over them talks through the host's memory, slowly"
            + (f" ({', '.join(split)}); replicas of one GPU each do not" if split else ""),
            fix="nvidia-smi topo -p2p r",
        )
    elif links:
        joined = sum(1 for link in links if link.nvlink_count)
        all_of_them = f"all {len(links)} pairs of GPUs have" if len(links) > 1 else "both GPUs have"
        yield fine(f"{all_of_them} peer access, {joined} over NVLink")


def held_memory(inventory: Inventory) -> Iterator[Verdict]:
    """Memory that others hold. The bytes are the truth: a container does not see every process."""
    found = looked = False
    for gpu in inventory.gpus:
        if gpu.memory_total_bytes is None or gpu.memory_free_bytes is None or gpu.unified_memory:
            continue
        looked = True
        held = gpu.memory_total_bytes - gpu.memory_free_bytes
        if held < HELD_BYTES:
            continue
        found = True
        seen = [process for process in gpu.processes or () if process.command]
        unseen = [f"pid {process.pid} of the host" for process in gpu.processes or () if not process.command]
        who = ", ".join([*(f"{process.command} (pid {process.pid})" for process in seen), *unseen])
        pids = ",".join(str(process.pid) for process in seen)
        yield warning(
            f"GPU {gpu.label}: others hold {format_bytes(held)} of {format_bytes(gpu.memory_total_bytes)}: "
            + (who or "processes that cannot be seen from here"),
            fix=f"ps -o user,pid,etime,args -p {pids}" if pids else f"nvidia-smi -i {gpu.index}",
        )
    if looked and not found:
        yield fine("nobody else holds GPU memory")


def _count(gpus: tuple[Gpu, ...]) -> str:
    slices = sum(1 for gpu in gpus if gpu.mig)
    kinds = [(len(gpus) - slices, "GPU"), (slices, "MIG device")]
    return " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for count, kind in kinds if count)


def _differ(gpus: tuple[Gpu, ...]) -> bool:
    return len({gpu.name for gpu in gpus}) > 1
