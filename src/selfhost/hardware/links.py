"""What joins GPUs: PCIe, NVLink, and whether one reaches the other's memory. Pure."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

from selfhost.hardware.inventory import Gpu, GpuLink, PciPath
from selfhost.hardware.pci_address import as_sysfs_writes

# nvmlGpuTopologyLevel_t of nvml.h; INTERNAL is two GPUs on one board
_PATHS: Mapping[int, PciPath] = {
    0: PciPath.ONE_SWITCH,
    10: PciPath.ONE_SWITCH,
    20: PciPath.SWITCHES,
    30: PciPath.HOST_BRIDGE,
    40: PciPath.NUMA_NODE,
    50: PciPath.SYSTEM,
}


def join(
    gpus: Sequence[Gpu],
    *,
    addresses: Collection[str],
    nvlinks: Mapping[int, Sequence[str | None] | None],
    pairs: Mapping[tuple[int, int], Mapping[str, Any]],
) -> tuple[GpuLink, ...]:
    """One link for each pair of `gpus`.

    `addresses` are those of all GPUs of the machine, as sysfs writes them;
    `nvlinks` holds for each GPU's index the PCI addresses at the other ends of its active NVLinks, None for a switch;
    `pairs` what NVML said about two of them, in either order (`nvml_query.py`).
    """
    ends = {
        index: [end and as_sysfs_writes(end) for end in links] for index, links in nvlinks.items() if links is not None
    }
    links = []
    for first, second in combinations(gpus, 2):
        said = pairs.get((first.index, second.index)) or pairs.get((second.index, first.index)) or {}
        read, write, topology = said.get("read"), said.get("write"), said.get("topology")
        links.append(
            GpuLink(
                first=first.uuid,
                second=second.uuid,
                pci_path=None if topology is None else _PATHS.get(topology),
                nvlink_count=_count(
                    ends.get(first.index), ends.get(second.index), second, addresses, connected=said.get("nvlink")
                ),
                peer_access=None if read is None or write is None else read and write,
            )
        )
    return tuple(links)


def _count(
    own: Sequence[str | None] | None,
    others: Sequence[str | None] | None,
    second: Gpu,
    addresses: Collection[str],
    *,
    connected: bool | None,
) -> int | None:
    """NVLinks straight to the second GPU; or, through switches, as many as both GPUs have there."""
    if own is None:
        return None
    direct = sum(end is not None and end == second.pci_bus_id for end in own)
    if direct or connected is False:
        return direct
    return min(_to_switches(own, addresses), _to_switches(others or (), addresses))


def _to_switches(ends: Sequence[str | None], addresses: Collection[str]) -> int:
    """An address that is no GPU's is a switch's: old drivers do not say what is there."""
    return sum(end is None or end not in addresses for end in ends)
