"""NVIDIA's Jetson boards: their GPU is a part of the processor and stands on no PCI bus."""

from pathlib import Path

from selfhost.hardware.kernel_file import read_text


def is_jetson(root: Path) -> bool:
    """Whether this is one: by the board's device tree, or by the file that Jetson Linux (L4T) puts into every image."""
    if (root / "etc/nv_tegra_release").exists():
        return True
    compatible = read_text(root / "proc/device-tree/compatible") or ""
    return "nvidia,tegra" in compatible  # "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0"
