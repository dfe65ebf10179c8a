"""What lies in the place of the kernel's files costs a fact, never the look at the machine."""

import os

import pytest

from fixtures.machine import Machine
from selfhost.hardware.cgroup import Limits, read_limits
from selfhost.hardware.detect import detect
from selfhost.hardware.xids import read_xids
from selfhost.units import KIB

FILES = (
    *("proc/meminfo", "proc/1/comm", "proc/1/cgroup", "run/systemd/container", "proc/device-tree/compatible"),
    *("dev/kmsg", "var/log/kern.log", "sys/bus/pci/devices/0000:31:00.0/class"),
    *("sys/bus/pci/devices/0000:31:00.0/numa_node",),
)
OF_GROUPS = ("proc/self/cgroup", "proc/self/mountinfo")
MANY = "9" * 5000  # more digits than int() takes


@pytest.mark.parametrize("kind", ["pipe", "device without end", "garbage"])
def test_a_machine_whose_files_are_something_else_is_looked_at(nvml, machine, kind: str) -> None:
    nvml("l4")
    for path in (*FILES, *OF_GROUPS):
        file = machine.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "garbage":
            file.write_bytes(b"\xff\0\nno colon\n:\n" + MANY.encode())
        else:
            file.symlink_to("/dev/zero")
    found = detect()
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA L4"]
    assert (found.gpus[0].numa_node, found.gpus[0].xids) == (None, ())
    assert found.host.memory_total_bytes > 0


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "100000 0"},
        {"cpu.max": f"{MANY} 100000"},
        {"memory.max": MANY},
        {"memory.max": str(KIB), "memory.current": "24", "memory.stat": "active_file\ninactive_file -5\n"},
    ],
)
def test_a_limit_that_is_no_number_is_none(tmp_path, files: dict[str, str]) -> None:
    for name, text in files.items():
        Machine(tmp_path).write(f"sys/fs/cgroup/{name}", text)
    limited = Limits(memory_total_bytes=KIB, memory_available_bytes=KIB - 24) if "memory.stat" in files else Limits()
    assert read_limits(tmp_path) == limited


def test_an_xid_without_end_is_none(machine) -> None:
    machine.write("dev/kmsg", f"NVRM: Xid (PCI:0000:1b:00): {MANY}, x\nNVRM: Xid (PCI:0000:1b:00): 79, y\n")
    assert read_xids(machine.root) == {"0000:1b:00.0": (79,)}
