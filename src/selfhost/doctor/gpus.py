"""Checks of which GPUs there are, and of how they are joined. Pure."""

from collections.abc import Iterator

from selfhost.demo import VARIANTS
from selfhost.doctor.facts import Facts
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning
from selfhost.hardware.inventory import Gpu, Inventory


def driver(facts: Facts) -> Iterator[Verdict]:
    """There are GPUs, or there is none; what lies between keeps everything from being served on them."""
    inventory = facts.inventory
    if inventory.problem:
        # The built-in model, asked for by name, runs on the CPU of such a box.
        needed = facts.manifest is None or any(model.source not in VARIANTS for model in facts.manifest.models)
        yield (blocking if needed else warning)(inventory.problem, fix=inventory.hint)
    elif inventory.gpus:
        cuda = ".".join(map(str, inventory.cuda_version)) if inventory.cuda_version else "unknown"
        yield fine(f"{count(inventory.gpus)}, driver {inventory.driver_version or 'unknown'}, CUDA {cuda} or older")
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
        yield fine(f"engines can start on {count(tuple(slices))}")


def visibility(facts: Facts) -> Iterator[Verdict]:
    """CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER."""
    visible = facts.environ.get("CUDA_VISIBLE_DEVICES")
    if not facts.inventory.gpus:
        return
    if visible is None:
        yield fine("CUDA_VISIBLE_DEVICES is not set")
        return
    named = [entry.strip() for entry in visible.split(",")]
    shown, hidden = len(facts.inventory.gpus) + len(facts.inventory.unusable_gpus), facts.inventory.hidden_gpu_count
    devices = "devices" if any(gpu.mig for gpu in facts.inventory.gpus) else "GPUs"
    ignored = facts.inventory.ignored_visible_device
    if ignored is not None:
        yield warning(
            f'CUDA_VISIBLE_DEVICES="{visible}" shows {shown} of {hidden + shown} {devices}: "{ignored}" names none, or '
            "more than one, and CUDA ignores it and all after it",
            fix="nvidia-smi -L",
        )
    elif hidden:
        yield note(f'CUDA_VISIBLE_DEVICES="{visible}" hides {hidden} of {hidden + shown} {devices}')
    else:
        yield fine(f'CUDA_VISIBLE_DEVICES="{visible}" hides none')
    order = facts.environ.get("CUDA_DEVICE_ORDER")
    if order != "PCI_BUS_ID" and any(entry.isdecimal() for entry in named) and _differ(facts.inventory.gpus):
        yield note(
            "the GPUs differ, and other CUDA programs count them fastest first: here and in engines the indices of "
            "CUDA_VISIBLE_DEVICES follow the PCI bus, as in nvidia-smi",
            fix="export CUDA_DEVICE_ORDER=PCI_BUS_ID",
        )


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


def count(gpus: tuple[Gpu, ...]) -> str:
    """`1 GPU and 3 MIG devices`."""
    slices = sum(1 for gpu in gpus if gpu.mig)
    kinds = [(len(gpus) - slices, "GPU"), (slices, "MIG device")]
    return " and ".join(f"{number} {kind}{'s' if number > 1 else ''}" for number, kind in kinds if number)


def _differ(gpus: tuple[Gpu, ...]) -> bool:
    return len({gpu.name for gpu in gpus}) > 1
