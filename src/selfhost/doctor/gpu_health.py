"""Checks of how well each GPU is, and of who else uses it. Pure."""

from collections.abc import Iterator
from itertools import groupby

from selfhost.doctor.container import on_host
from selfhost.doctor.finding import Verdict, fine, note, warning
from selfhost.hardware import held_memory as memory
from selfhost.hardware import xid_meanings
from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.units import format_bytes


def memory_errors(inventory: Inventory) -> Iterator[Verdict]:
    """ECC errors and rows of memory that are to be replaced: of a card, also where it is cut into MIG devices."""
    known = [gpu for gpu in _cards(inventory) if gpu.ecc_enabled is not None or gpu.row_remap_pending is not None]
    healthy = True
    for gpu in known:
        reset = f"selfhost down; sudo nvidia-smi --gpu-reset -i {gpu.index}"
        if gpu.mig:
            reset += "  # the whole card: stop what runs on its other MIG devices, too"
        reset = on_host(inventory.host, reset)
        if gpu.row_remap_failed:
            healthy = False
            yield warning(f"GPU {gpu.index} has memory rows that cannot be replaced any more: have it replaced")
        elif gpu.row_remap_pending:
            healthy = False
            yield warning(f"GPU {gpu.index} has broken memory rows that are replaced at its next reset", fix=reset)
        if gpu.ecc_uncorrected_errors:
            healthy = False
            yield warning(
                f"GPU {gpu.index} has {gpu.ecc_uncorrected_errors} uncorrected memory errors since its driver was "
                "loaded: engines on it crash or answer wrongly",
                fix=reset,
            )
    if known and healthy:
        yield fine("no uncorrected memory error on any GPU")


def xids(inventory: Inventory) -> Iterator[Verdict]:
    """What the kernel's log says about the cards since it booted."""
    for gpu in _cards(inventory):
        of_gpu = [xid for xid in gpu.xids if xid_meanings.of_gpu(xid)]
        if of_gpu:
            yield warning(
                f"GPU {gpu.index}: the kernel's log has Xid {xid_meanings.describe(of_gpu)}",
                fix="sudo dmesg | grep Xid  # then reset the GPU or reboot; if it comes back, have it replaced",
            )
        elif gpu.xids:
            yield note(f"GPU {gpu.index}: the kernel's log has Xid {xid_meanings.describe(gpu.xids)}")


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
            fix=on_host(inventory.host, f"sudo nvidia-smi -i {labels} -pl {default}"),
        )
    if known and not capped:
        yield fine("no GPU's power is capped")


def held_memory(inventory: Inventory) -> Iterator[Verdict]:
    """Memory that others hold, in the words of `selfhost gpus`."""
    looked = [(gpu, held) for gpu in inventory.gpus if (held := memory.held_memory(gpu))]
    found = [(gpu, held) for gpu, held in looked if held.held_bytes >= memory.WORTH_TELLING_BYTES]
    for gpu, held in found:
        pids = ",".join(str(process.pid) for process in gpu.processes or () if process.command)
        yield warning(
            f"GPU {gpu.label}: others hold {format_bytes(held.held_bytes)} of "
            f"{format_bytes(gpu.memory_total_bytes or 0)}: {held.holders}",
            fix=f"ps -o user,pid,etime,args -p {pids}" if pids else f"nvidia-smi -i {gpu.index}",
        )
    if looked and not found:
        yield fine("nobody else holds GPU memory")


def _cards(inventory: Inventory) -> list[Gpu]:
    """Each card once, as itself or as the first of its MIG devices, which all tell the errors of the card."""
    cards = {gpu.mig.parent_uuid if gpu.mig else gpu.uuid: gpu for gpu in reversed(inventory.gpus)}
    return list(cards.values())[::-1]
