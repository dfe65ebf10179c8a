"""Common NVIDIA GPUs as data: what their drivers tell of them, for plans of machines that one does not have.

Memory is the total that NVML tells, which is less than the product's name says: in MiB as `nvidia-smi` of such cards
prints it with ECC as it is by default, in bytes where NVML's answer was at hand (tests/fakes/nvml/scenarios); the
A100-PCIe-80GB has the SXM card's. Compute capabilities go by generation (read: in copies of NVIDIA's list, not in the
list itself, developer.nvidia.com/cuda-gpus). NVLinks, only of boards that NVSwitches join, were not looked up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from selfhost.units import MIB

_VENDOR = re.compile(r"nvidia|geforce|tesla|[^a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGpu:
    """One kind of GPU."""

    spelling: str  # as people write it
    name: str  # as NVML does
    memory_bytes: int
    compute_capability: tuple[int, int]
    nvlinks: int | None = 0  # from each to every other in one box; None: it depends on the box
    unified: bool = False  # its memory is the host's
    architecture: str = "x86_64"  # of the processor that it comes with, or is mostly bought with
    aliases: tuple[str, ...] = ()  # besides `spelling` and `name`


KNOWN_GPUS: tuple[KnownGpu, ...] = (
    KnownGpu(
        spelling="H100",
        name="NVIDIA H100 80GB HBM3",
        memory_bytes=85_520_809_984,
        compute_capability=(9, 0),
        nvlinks=18,
        aliases=("H100-80GB", "H100-SXM", "H100-SXM5", "H100-SXM5-80GB"),
    ),
    KnownGpu(
        spelling="H100-PCIe",
        name="NVIDIA H100 PCIe",
        memory_bytes=85_520_809_984,
        compute_capability=(9, 0),
        nvlinks=None,
        aliases=("H100-PCIe-80GB",),
    ),
    KnownGpu(
        spelling="H100-NVL",
        name="NVIDIA H100 NVL",
        memory_bytes=95830 * MIB,
        compute_capability=(9, 0),
        nvlinks=None,
        aliases=("H100-94GB", "H100-NVL-94GB"),
    ),
    KnownGpu(
        spelling="H200",
        name="NVIDIA H200",
        memory_bytes=143_771 * MIB,
        compute_capability=(9, 0),
        nvlinks=18,
        aliases=("H200-141GB", "H200-SXM"),
    ),
    KnownGpu(
        spelling="H20",
        name="NVIDIA H20",
        memory_bytes=97_871 * MIB,
        architecture="aarch64",
        compute_capability=(9, 0),
        nvlinks=18,
        aliases=("H20-96GB",),
    ),
    KnownGpu(
        spelling="GH200",
        name="NVIDIA GH200 480GB",
        memory_bytes=97_871 * MIB,
        compute_capability=(9, 0),
        nvlinks=None,
        aliases=("GH200-96GB",),
    ),
    KnownGpu(
        spelling="B200",
        name="NVIDIA B200",
        memory_bytes=183_359 * MIB,
        compute_capability=(10, 0),
        nvlinks=18,
        aliases=("B200-180GB", "B200-192GB", "B200-SXM"),
    ),
    KnownGpu(
        spelling="A100-80GB",
        name="NVIDIA A100-SXM4-80GB",
        memory_bytes=85_899_345_920,
        compute_capability=(8, 0),
        nvlinks=12,
        aliases=("A100-SXM-80GB", "A100-80GB-SXM"),
    ),
    KnownGpu(
        spelling="A100-40GB",
        name="NVIDIA A100-SXM4-40GB",
        memory_bytes=40_960 * MIB,
        compute_capability=(8, 0),
        nvlinks=12,
        aliases=("A100-SXM-40GB", "A100-40GB-SXM"),
    ),
    KnownGpu(
        spelling="A100-PCIe-80GB",
        name="NVIDIA A100 80GB PCIe",
        memory_bytes=81_920 * MIB,
        compute_capability=(8, 0),
        nvlinks=None,
    ),
    KnownGpu(
        spelling="A100-PCIe-40GB",
        name="NVIDIA A100-PCIE-40GB",
        memory_bytes=40_960 * MIB,
        compute_capability=(8, 0),
        nvlinks=None,
        aliases=("A100-40GB-PCIe",),
    ),
    KnownGpu(spelling="L4", name="NVIDIA L4", memory_bytes=24_152_899_584, compute_capability=(8, 9)),
    KnownGpu(spelling="L40S", name="NVIDIA L40S", memory_bytes=46_068 * MIB, compute_capability=(8, 9)),
    KnownGpu(spelling="A10", name="NVIDIA A10", memory_bytes=23_028 * MIB, compute_capability=(8, 6)),
    KnownGpu(spelling="A10G", name="NVIDIA A10G", memory_bytes=23_028 * MIB, compute_capability=(8, 6)),
    KnownGpu(spelling="A40", name="NVIDIA A40", memory_bytes=46_068 * MIB, compute_capability=(8, 6), nvlinks=None),
    KnownGpu(
        spelling="RTXA6000",
        name="NVIDIA RTX A6000",
        memory_bytes=49_140 * MIB,
        compute_capability=(8, 6),
        nvlinks=None,
        aliases=("A6000",),
    ),
    KnownGpu(spelling="T4", name="Tesla T4", memory_bytes=15_360 * MIB, compute_capability=(7, 5)),
    KnownGpu(
        spelling="V100-16GB",
        name="Tesla V100-SXM2-16GB",
        memory_bytes=16_945_512_448,
        compute_capability=(7, 0),
        nvlinks=None,
    ),
    KnownGpu(
        spelling="V100-32GB",
        name="Tesla V100-SXM2-32GB",
        memory_bytes=32_768 * MIB,
        compute_capability=(7, 0),
        nvlinks=None,
    ),
    KnownGpu(
        spelling="RTX3090",
        name="NVIDIA GeForce RTX 3090",
        memory_bytes=25_769_803_776,
        compute_capability=(8, 6),
        nvlinks=None,
        aliases=("3090",),
    ),
    KnownGpu(
        spelling="RTX4090",
        name="NVIDIA GeForce RTX 4090",
        memory_bytes=25_757_220_864,
        compute_capability=(8, 9),
        aliases=("4090",),
    ),
    KnownGpu(
        spelling="RTX5090",
        name="NVIDIA GeForce RTX 5090",
        memory_bytes=32_607 * MIB,
        compute_capability=(12, 0),
        aliases=("5090",),
    ),
    KnownGpu(
        spelling="RTX6000Ada",
        name="NVIDIA RTX 6000 Ada Generation",
        memory_bytes=49_140 * MIB,
        compute_capability=(8, 9),
        aliases=("6000Ada",),
    ),
    KnownGpu(
        spelling="RTXPRO6000",
        name="NVIDIA RTX PRO 6000 Blackwell Server Edition",
        memory_bytes=97_887 * MIB,
        compute_capability=(12, 0),
        aliases=("PRO6000", "RTXPRO6000-96GB", "RTX-PRO-6000-Blackwell"),
    ),
    KnownGpu(
        spelling="GB10",
        name="NVIDIA GB10",
        memory_bytes=128_000_000_000,  # nominal: its NVML tells none, and what its Linux leaves differs
        compute_capability=(12, 1),
        unified=True,
        architecture="aarch64",
        aliases=("DGX-Spark", "Spark"),
    ),
)

# Names of several cards whose memory differs: which one is for whoever asks to say.
AMBIGUOUS: Mapping[str, tuple[str, ...]] = {
    "a100": ("A100-40GB", "A100-80GB"),
    "a100pcie": ("A100-PCIe-40GB", "A100-PCIe-80GB"),
    "v100": ("V100-16GB", "V100-32GB"),
}


def normalized(name: str) -> str:
    """`name` without what people write differently: case, spaces, dashes, and the vendor's brands."""
    return _VENDOR.sub("", name.casefold())


BY_NAME: Mapping[str, KnownGpu] = {
    normalized(name): gpu for gpu in KNOWN_GPUS for name in (gpu.spelling, gpu.name, *gpu.aliases)
}
