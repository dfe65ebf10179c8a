from pathlib import Path

import pytest

from selfhost.hardware.inventory import Accelerator
from selfhost.hardware.pci import PciFunction, find_accelerators, nvidia_device_nodes, read_accelerators

# what is plugged in: (functions as address, class, vendor; the accelerators among them)
BUSES = {
    "H100 SXM, with its NVSwitch": (
        [("0000:1b:00.0", 0x030200, 0x10DE), ("0000:05:00.0", 0x068000, 0x10DE)],
        [("NVIDIA", "0000:1b:00.0")],
    ),
    "RTX 4090, with its sound": (
        [("0000:01:00.0", 0x030000, 0x10DE), ("0000:01:00.1", 0x040300, 0x10DE)],
        [("NVIDIA", "0000:01:00.0")],
    ),
    "MI300X, a processing accelerator": ([("0000:05:00.0", 0x120000, 0x1002)], [("AMD", "0000:05:00.0")]),
    "MI250, a display controller": ([("0000:c1:00.0", 0x038000, 0x1002)], [("AMD", "0000:c1:00.0")]),
    "Radeon RX 7900 XTX": (
        [("0000:03:00.0", 0x030000, 0x1002), ("0000:03:00.1", 0x040300, 0x1002), ("0000:03:00.2", 0x0C0330, 0x1002)],
        [("AMD", "0000:03:00.0")],
    ),
    "graphics of a Ryzen 7700, with the processor's crypto and USB": (
        [
            ("0000:0c:00.0", 0x030000, 0x1002),
            ("0000:0c:00.1", 0x040300, 0x1002),
            ("0000:0c:00.2", 0x108000, 0x1022),
            ("0000:0c:00.3", 0x0C0330, 0x1022),
        ],
        [],
    ),
    "Intel Data Center GPU Max": ([("0000:29:00.0", 0x038000, 0x8086)], [("Intel", "0000:29:00.0")]),
    "Intel Arc A770, made for displays": ([("0000:03:00.0", 0x030000, 0x8086)], []),
    "graphics of an Intel processor, first and second display": (
        [("0000:00:02.0", 0x030000, 0x8086), ("0001:00:02.0", 0x038000, 0x8086)],
        [],
    ),
    "NPU of an Intel Core Ultra": ([("0000:00:0b.0", 0x120000, 0x8086)], []),
    "Gaudi 3": ([("0000:33:00.0", 0x120000, 0x1DA3)], [("Habana", "0000:33:00.0")]),
    "an accelerator of a vendor that we do not know": (
        [("0000:33:00.0", 0x120000, 0x1AB4)],
        [("PCI vendor 1ab4", "0000:33:00.0")],
    ),
    "displays of management controllers and virtual machines": (
        [
            ("0000:02:00.0", 0x030000, 0x1A03),  # ASPEED
            ("0000:03:00.0", 0x030000, 0x102B),  # Matrox
            ("0000:00:01.0", 0x030000, 0x1AF4),  # virtio
            ("0000:00:02.0", 0x030000, 0x1234),  # QEMU
        ],
        [],
    ),
    "nothing": ([], []),
}


@pytest.mark.parametrize(("functions", "expected"), BUSES.values(), ids=BUSES)
def test_accelerators_are_told_from_displays(functions, expected) -> None:
    bus = [PciFunction(address=address, class_code=code, vendor=vendor) for address, code, vendor in functions]
    assert [(found.vendor, found.pci_address) for found in find_accelerators(bus)] == expected


def test_the_bus_is_read_from_sysfs_whatever_state_it_is_in(machine) -> None:
    assert read_accelerators(machine.root) == ()
    machine.plug_in("0000:3b:00.0")
    machine.plug_in("0000:1b:00.0")
    machine.plug_in("0000:00:1f.0", class_code=0x060100, vendor=0x8086)
    (machine.root / "sys/bus/pci/devices/0000:7b:00.0").mkdir()  # unplugged in this moment: no files
    assert read_accelerators(machine.root) == (
        Accelerator(vendor="NVIDIA", pci_address="0000:1b:00.0"),
        Accelerator(vendor="NVIDIA", pci_address="0000:3b:00.0"),
    )


def test_without_a_bus_the_drivers_own_list_speaks(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia/gpus/0000:1b:00.0").mkdir(parents=True)
    assert read_accelerators(tmp_path) == (Accelerator(vendor="NVIDIA", pci_address="0000:1b:00.0"),)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("dev/nvidia0", True),
        ("proc/driver/nvidia/version", True),
        ("dev/nvidiactl", False),  # stays when the module is there without a GPU
        ("dev/null", False),
    ],
)
def test_the_drivers_marks(tmp_path: Path, file: str, expected) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert nvidia_device_nodes(tmp_path) is expected
