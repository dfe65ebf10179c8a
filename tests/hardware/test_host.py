import os
from pathlib import Path

import pytest

from selfhost.hardware.cgroup import Limits
from selfhost.hardware.host import limit, read_host
from selfhost.hardware.inventory import Host
from selfhost.units import GIB


def host(cores: int, total: int, available: int) -> Host:
    return Host(
        architecture="x86_64",
        cpu_count=cores,
        memory_total_bytes=total * GIB,
        memory_available_bytes=available * GIB,
    )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), host(16, 64, 50)),
        (Limits(cpu_cores=4), host(4, 64, 50)),
        (Limits(cpu_cores=1.5), host(2, 64, 50)),
        (Limits(cpu_cores=0.1), host(1, 64, 50)),
        (Limits(cpu_cores=100), host(16, 64, 50)),
        (Limits(memory_total_bytes=8 * GIB, memory_available_bytes=3 * GIB), host(16, 8, 3)),
        (Limits(memory_total_bytes=8 * GIB), host(16, 8, 8)),
        (Limits(memory_total_bytes=60 * GIB, memory_available_bytes=59 * GIB), host(16, 60, 50)),
        (Limits(memory_total_bytes=500 * GIB, memory_available_bytes=499 * GIB), host(16, 64, 50)),
    ],
)
def test_the_host_is_what_the_limits_leave_of_the_machine(limits: Limits, expected: Host) -> None:
    assert limit(host(16, 64, 50), limits) == expected


def test_this_machine_reads_as_it_is(tmp_path: Path) -> None:
    found = read_host(tmp_path)
    assert found.architecture == os.uname().machine
    assert 1 <= found.cpu_count <= (os.cpu_count() or 1)
    assert 0 < found.memory_available_bytes <= found.memory_total_bytes
