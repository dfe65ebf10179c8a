"""An inventory as text, for people: a table of GPUs, then only what one should know. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from selfhost.columns import align
from selfhost.hardware import xid_meanings
from selfhost.hardware.held_memory import WORTH_TELLING_BYTES, held_memory
from selfhost.hardware.inventory import Disk, Gpu, GpuLink, Host, Inventory, PciPath, Storage, UnusableGpu
from selfhost.units import format_bytes

UNKNOWN = "unknown"

_PATHS: Mapping[PciPath, str] = {
    PciPath.ONE_SWITCH: "over one PCIe switch",
    PciPath.SWITCHES: "over several PCIe switches",
    PciPath.HOST_BRIDGE: "over the processor's PCIe host bridge",
    PciPath.NUMA_NODE: "over PCIe host bridges of one NUMA node",
    PciPath.SYSTEM: "over PCIe and from one NUMA node to another",
}
_STORAGE: Mapping[Storage, str] = {
    Storage.LOCAL: "",
    Storage.NETWORK: ", network",
    Storage.EPHEMERAL: ", gone with the container",
    Storage.MEMORY: ", in memory",
}


def render_inventory(inventory: Inventory) -> list[str]:
    """The lines that `selfhost gpus` shows."""
    lines = []
    facts = list(_notes([*inventory.gpus, *inventory.unusable_gpus]))
    if inventory.gpus:
        lines += [*_gpus(inventory.gpus), ""]
        matrix = _matrix(inventory)
        lines += [*matrix, ""] if matrix else []
        if inventory.links:
            facts.append(("links", _links(inventory.links, told_in_matrix=bool(matrix))))
    elif not inventory.problem:
        lines += ["no GPU: models run on the CPU", ""]
    else:
        vendors = sorted({found.vendor for found in inventory.accelerators})
        for vendor in vendors:
            addresses = [found.pci_address for found in inventory.accelerators if found.vendor == vendor]
            facts.append(("pci", f"{vendor} at {', '.join(addresses)}"))
    if inventory.driver_version:
        facts.append(("driver", f"{inventory.driver_version}, CUDA {_version(inventory.cuda_version)} or older"))
    facts += _host(inventory.host)
    lines += align(facts)
    if inventory.disks:
        lines += ["", *_disks(inventory.disks)]
    return lines


def _gpus(gpus: Sequence[Gpu]) -> list[str]:
    several_nodes = len({gpu.numa_node for gpu in gpus} - {None}) > 1
    rows = [("GPU", "NAME", "FREE", "MEMORY", "COMPUTE", *(("NUMA",) if several_nodes else ()), "PCI", "UUID")]
    uuids = _shortened([gpu.uuid for gpu in gpus])
    for gpu, uuid in zip(gpus, uuids, strict=True):
        node = (UNKNOWN if gpu.numa_node is None else str(gpu.numa_node),) if several_nodes else ()
        rows.append(
            (
                gpu.label,
                gpu.name or UNKNOWN,
                _bytes(gpu.memory_free_bytes),
                _bytes(gpu.memory_total_bytes),
                _version(gpu.compute_capability),
                *node,
                gpu.pci_bus_id or "-",
                uuid,
            )
        )
    return align(rows, right={2, 3})


def _shortened(uuids: Sequence[str]) -> list[str]:
    """Their beginnings, as long as it takes to tell them apart: CUDA_VISIBLE_DEVICES takes those too."""
    longest = max(map(len, uuids))
    length = next(size for size in range(12, longest + 13) if len({uuid[:size] for uuid in uuids}) == len(set(uuids)))
    return [uuid[:length] for uuid in uuids]


def _notes(gpus: Sequence[Gpu | UnusableGpu]) -> Iterator[tuple[str, str]]:
    """What is to be known about some of the GPUs, the same of several told once."""
    concerned: dict[str, list[str]] = {}
    for gpu in gpus:
        for note in _notes_of(gpu) if isinstance(gpu, Gpu) else _notes_of_unusable(gpu):
            concerned.setdefault(note, []).append(gpu.label)
    for note, labels in concerned.items():
        yield "all GPUs" if len(labels) == len(gpus) > 1 else f"GPU {', '.join(labels)}", note


def _notes_of_unusable(gpu: UnusableGpu) -> Iterator[str]:
    if gpu.xids:
        yield f"Xid errors since boot: {xid_meanings.describe(gpu.xids)}"


def _notes_of(gpu: Gpu) -> Iterator[str]:
    if gpu.unified_memory:
        yield "its memory is the host's"
    if gpu.virtual:
        yield "a vGPU: a share of a card"
    limit, default = gpu.power_limit_watts, gpu.power_default_watts
    if limit is not None and default is not None and limit < default:
        yield f"power is capped at {limit} W of {default} W"
    if gpu.ecc_enabled is False:
        yield "ECC is off"
    if gpu.ecc_uncorrected_errors:
        yield f"{gpu.ecc_uncorrected_errors} uncorrectable ECC errors since the driver was loaded"
    if gpu.row_remap_failed:
        yield "a broken memory row could not be replaced: the GPU needs service"
    elif gpu.row_remap_pending:
        yield f"broken memory rows are replaced at the next reset (`sudo nvidia-smi --gpu-reset -i {gpu.index}`)"
    if gpu.xids:
        yield f"Xid errors since boot: {xid_meanings.describe(gpu.xids)}"
    held = held_memory(gpu)
    if held and (gpu.processes or held.held_bytes >= WORTH_TELLING_BYTES):
        yield f"{format_bytes(held.held_bytes)} held: {held.holders}"


def _links(links: Sequence[GpuLink], *, told_in_matrix: bool) -> str:
    access = {link.peer_access for link in links}
    if len(access) > 1:
        return "* without peer access"
    peers = {True: "peer access", False: "no peer access", None: "peer access unknown"}[access.pop()]
    between = "the two" if len(links) == 1 else "every two"
    if told_in_matrix:
        return f"{peers} between {between}"
    link = links[0]
    if link.nvlink_count:
        return f"{link.nvlink_count} NVLinks between {between}, {peers}"
    path = f", {_PATHS[link.pci_path]}" if link.pci_path else ""
    return f"{_word(link)} between {between}{path}; {peers}"


def _matrix(inventory: Inventory) -> list[str]:
    """Who is joined how, as `nvidia-smi topo -m` shows it; nothing where all pairs are alike."""
    mark = len({link.peer_access for link in inventory.links}) > 1
    words = {
        (link.first, link.second): f"{_word(link)}{'*' if mark and link.peer_access is False else ''}"
        for link in inventory.links
    }
    if len(set(words.values())) < 2:
        return []
    whole = [gpu for gpu in inventory.gpus if not gpu.mig]
    cells = {pair: word for (first, second), word in words.items() for pair in ((first, second), (second, first))}
    rows = [["LINK", *(gpu.label for gpu in whole)]]
    rows += [[gpu.label, *(cells.get((gpu.uuid, other.uuid), "-") for other in whole)] for gpu in whole]
    return align(rows)


def _word(link: GpuLink) -> str:
    return f"NV{link.nvlink_count}" if link.nvlink_count else link.pci_path or "?"


def _host(host: Host) -> Iterator[tuple[str, str]]:
    cores = "1 core" if host.cpu_count == 1 else f"{host.cpu_count} cores"
    available, total = format_bytes(host.memory_available_bytes), format_bytes(host.memory_total_bytes)
    nodes = f", {host.numa_node_count} NUMA nodes" if (host.numa_node_count or 0) > 1 else ""
    yield "host", f"{host.architecture}, {cores}{nodes}, {available} of {total} memory available"
    system = [f"kernel {host.kernel}"] if host.kernel else []
    system += [f"in a container ({host.container})"] if host.container else []
    system += [f"process 1 is {host.init}"] if host.init else []
    system += ["root" if host.root else "not root"] if host.root is not None else []
    if system:
        yield "system", ", ".join(system)
    limits = []
    if host.shm_total_bytes is not None and host.shm_free_bytes is not None:
        free, total = format_bytes(host.shm_free_bytes), format_bytes(host.shm_total_bytes)
        limits.append(f"{free} of {total} free in /dev/shm")
    if host.limits.open_files is not None:
        limits.append(f"{host.limits.open_files:,} open files")
    if host.limits.processes is not None:
        limits.append(f"{host.limits.processes:,} processes")
    if host.limits.locked_memory_bytes is not None:
        limits.append(f"{format_bytes(host.limits.locked_memory_bytes)} locked memory")
    if limits:
        yield "limits", ", ".join(limits)


def _disks(disks: Sequence[Disk]) -> list[str]:
    rows = [("DISK FOR", "FREE", "SIZE", "FILESYSTEM", "FOLDER")]
    for disk in disks:
        kind = f"{disk.filesystem or UNKNOWN}{_STORAGE[disk.storage] if disk.storage else ''}"
        kind += ", not writable" if disk.writable is False else ""
        rows.append((disk.purpose, format_bytes(disk.free_bytes), format_bytes(disk.total_bytes), kind, disk.path))
    return align(rows, right={1, 2})


def _bytes(count: int | None) -> str:
    return UNKNOWN if count is None else format_bytes(count)


def _version(version: tuple[int, int] | None) -> str:
    return UNKNOWN if version is None else f"{version[0]}.{version[1]}"
