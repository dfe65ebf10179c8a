"""What a test of the links between GPUs says about NCCL's settings. Pure.

NCCL hangs, or computes rubbish, on boxes whose GPUs claim peer access that does not work (vLLM issues 8058, 6370;
NVIDIA/nccl "P2P" troubleshooting: ACS and IOMMU). So a two-rank all-reduce is tried as NCCL would do it, then with less
peer access, and what worked is what engines are started with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from selfhost.hardware.inventory import Gpu, GpuLink, Inventory, PciPath

_DISTANCE = {path: distance for distance, path in enumerate(PciPath)}  # the enumeration goes from near to far

Settings = Mapping[str, str]  # environment variables of NCCL


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTest:
    """A two-rank all-reduce that worked, with the least that had to be set for it."""

    gpu_uuids: tuple[str, ...]  # every GPU that was there
    driver_version: str | None
    pair: tuple[str, str]  # the two that were tested: the worst connected
    settings: Settings = field(default_factory=dict)
    gib_per_second: float
    tested: str  # the day: "2026-11-22"

    @property
    def engine_args(self) -> Mapping[str, bool]:
        """What vLLM must be told besides.

        Its own all-reduce uses peer access too, and takes the driver's word for it (VLLM_SKIP_P2P_CHECK;
        `distributed/device_communicators/custom_all_reduce.py:_can_p2p`).
        """
        return {"disable-custom-all-reduce": True} if self.settings else {}

    @property
    def cause(self) -> str:
        """Why engines get the settings; "" when there are none."""
        if not self.settings:
            return ""
        setting = " ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{setting}: only so did an all-reduce between two GPUs work (selfhost doctor --deep, {self.tested})"

    def holds_for(self, inventory: Inventory) -> bool:
        """Whether these are the same cards on the same driver: disks move from one rented box to the next."""
        whole = {gpu.uuid for gpu in inventory.gpus if not gpu.mig}
        return whole <= set(self.gpu_uuids) and self.driver_version == inventory.driver_version


def worst_pair(gpus: Sequence[Gpu], links: Sequence[GpuLink]) -> tuple[Gpu, Gpu] | None:
    """The two whole GPUs that are farthest apart: what works between them works between all. None: there is one GPU."""
    known = {frozenset((link.first, link.second)): link for link in links}
    whole = [gpu for gpu in gpus if not gpu.mig]

    def distance(pair: tuple[Gpu, Gpu]) -> tuple[bool, int]:
        link = known.get(frozenset(gpu.uuid for gpu in pair))
        if link is None:
            return True, len(_DISTANCE)
        return not link.nvlink_count, _DISTANCE[link.pci_path] if link.pci_path else len(_DISTANCE)

    return max(combinations(whole, 2), key=distance, default=None)


def settings_to_try(links: Sequence[GpuLink]) -> Iterator[Settings]:
    """From NCCL's own way to the most careful one.

    NCCL_P2P_LEVEL=NVL keeps peer access over NVLink and goes through host memory elsewhere, NCCL_P2P_DISABLE=1 always
    does (docs.nvidia.com/deeplearning/nccl, environment variables).
    """
    yield {}
    joined = [bool(link.nvlink_count) for link in links]
    if any(joined) and not all(joined):
        yield {"NCCL_P2P_LEVEL": "NVL"}
    yield {"NCCL_P2P_DISABLE": "1"}
