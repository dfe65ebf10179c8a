"""Accelerators on the PCI bus: what is plugged in, whatever drivers think of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from selfhost.hardware.inventory import Accelerator
from selfhost.hardware.kernel_file import read_text

_DISPLAY, _PROCESSING = 0x03, 0x12  # base classes: GPUs of all kinds; everything else that only computes
_DISPLAY_OTHER = 0x0380  # a GPU without a display: Intel's data-centre GPUs, but also an Intel processor's own


class _Vendor(IntEnum):
    NVIDIA = 0x10DE
    AMD_GPU = 0x1002  # once ATI
    AMD_CPU = 0x1022
    INTEL = 0x8086
    HABANA = 0x1DA3


_NAMES: Mapping[int, str] = {
    _Vendor.NVIDIA: "NVIDIA",
    _Vendor.AMD_GPU: "AMD",
    _Vendor.INTEL: "Intel",
    _Vendor.HABANA: "Habana",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PciFunction:
    """One function of a device on the PCI bus."""

    address: str  # "0000:1b:00.0": domain, bus, device, function
    class_code: int  # 0x030200: base class, subclass, interface
    vendor: int

    @property
    def slot(self) -> str:
        """The device that this function is a part of."""
        return self.address.rpartition(".")[0]


def read_accelerators(root: Path) -> tuple[Accelerator, ...]:
    """The accelerators that this machine's PCI bus shows; in a container these are all of the host's."""
    functions = [_read_function(path) for path in sorted((root / "sys/bus/pci/devices").glob("*"))]
    if functions:
        return find_accelerators([function for function in functions if function])
    # A sandbox may hide the bus and still show the driver's own list, a folder per GPU named by its address.
    driver = sorted((root / "proc/driver/nvidia/gpus").glob("*"))
    return tuple(Accelerator(vendor="NVIDIA", pci_address=path.name) for path in driver)


def nvidia_device_nodes(root: Path) -> bool:
    """Whether the NVIDIA driver left its mark: the device nodes of a GPU, or its folder in procfs."""
    return any((root / "dev").glob("nvidia[0-9]*")) or (root / "proc/driver/nvidia/version").exists()


def find_accelerators(functions: Sequence[PciFunction]) -> tuple[Accelerator, ...]:
    """Those of `functions` that could run a model if the right driver and engine were there.

    Not the graphics of a processor or of a board's management controller: nobody rents a machine for those.
    """
    processor_slots = {function.slot for function in functions if function.vendor == _Vendor.AMD_CPU}
    return tuple(
        Accelerator(
            vendor=_NAMES.get(function.vendor, f"PCI vendor {function.vendor:04x}"), pci_address=function.address
        )
        for function in functions
        if _is_accelerator(function, processor_slots)
    )


def _is_accelerator(function: PciFunction, processor_slots: set[str]) -> bool:
    base = function.class_code >> 16
    match function.vendor:
        case _Vendor.NVIDIA:
            return base in (_DISPLAY, _PROCESSING)
        case (
            _Vendor.AMD_GPU
        ):  # a Ryzen's own graphics share their slot with the processor's USB and crypto (vendor 1022)
            return base == _PROCESSING or (base == _DISPLAY and function.slot not in processor_slots)
        case _Vendor.INTEL:  # a processor's own graphics and NPU are on bus 0, cards never are
            card = function.address.split(":")[1] != "00"
            return card and (base == _PROCESSING or function.class_code >> 8 == _DISPLAY_OTHER)
        case _:
            return base == _PROCESSING


def _read_function(path: Path) -> PciFunction | None:
    try:
        class_code, vendor = (int(read_text(path / name) or "", 16) for name in ("class", "vendor"))
    except ValueError:  # unplugged while we look
        return None
    return PciFunction(address=path.name, class_code=class_code, vendor=vendor)
