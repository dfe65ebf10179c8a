"""Xid errors: what the NVIDIA driver wrote about its GPUs into the kernel's log.

NVML has no history of them: its events tell only what happens after one has registered for them (nvml.h:
nvmlDeviceRegisterEvents).
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from selfhost import regular_file
from selfhost.hardware.pci_address import as_sysfs_writes

# As in `NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.`
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]+:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-9])?)\): (\d{1,9})\b")
_BOOT = re.compile(r"kernel: (?:\[ *0\.0+\] )?Linux version ")
_MOST_BYTES = 16 * 1024 * 1024  # of the buffer; of a log file, from its end: what is older has been seen before


def read_xids(root: Path) -> Mapping[str, tuple[int, ...]]:
    """Every Xid since the kernel booted, by the PCI address of its GPU, latest last; empty where no log may be read.

    The kernel's own buffer if we may (root, or `kernel.dmesg_restrict` off), else the file in which Debian and Ubuntu
    keep it (group adm).
    """
    for read in (_kernel_buffer, _log_file):
        with suppress(OSError):
            return find_xids(read(root))
    return {}


def find_xids(log: str) -> dict[str, tuple[int, ...]]:
    """The Xids that stand in `log`, by the PCI address of their GPU."""
    found: dict[str, tuple[int, ...]] = {}
    for match in _XID.finditer(log):
        address = as_sysfs_writes(match[1])
        found[address] = (*found.get(address, ()), int(match[2]))
    return found


def since_boot(log: str) -> str:
    """The part of a log file that the running kernel wrote."""
    return log[boots[-1].start() :] if (boots := list(_BOOT.finditer(log))) else log


def _kernel_buffer(root: Path) -> str:
    """The buffer as it is now: a read gives one record, or fails where one was overwritten meanwhile (EPIPE)."""
    descriptor = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    records: list[bytes] = []
    try:
        while sum(map(len, records)) < _MOST_BYTES:
            try:
                record = os.read(descriptor, 65536)
            except BrokenPipeError:
                continue
            except BlockingIOError:  # that was the last one
                break
            if not record:
                break
            records.append(record)
    finally:
        os.close(descriptor)
    return b"".join(records).decode(errors="replace")


def _log_file(root: Path) -> str:
    with regular_file.opened(root / "var/log/kern.log") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_BYTES))
        return since_boot(file.read().decode(errors="replace"))
