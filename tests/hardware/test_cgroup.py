from pathlib import Path

import pytest

from selfhost.hardware.cgroup import Limits, read_limits
from selfhost.units import GIB, MIB

UNLIMITED_V1 = 9223372036854771712
V2_STAT = f"anon {2 * GIB}\nfile {3 * GIB}\nshmem {GIB}\ninactive_file {GIB}\nactive_file {512 * MIB}\n"
V1_STAT = f"active_file 1\ninactive_file 1\ntotal_active_file {512 * MIB}\ntotal_inactive_file {GIB}\n"

# machine: (files below the root; what they allow)
TREES = {
    "no control groups": ({}, Limits()),
    "version 2, nothing limited": (
        {"proc/self/cgroup": "0::/user.slice", "sys/fs/cgroup/user.slice/memory.max": "max",
         "sys/fs/cgroup/user.slice/cpu.max": "max 100000"},
        Limits(),
    ),
    "version 2, a container that sees itself as the root": (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(8 * GIB),
         "sys/fs/cgroup/memory.current": str(5 * GIB), "sys/fs/cgroup/memory.stat": V2_STAT,
         "sys/fs/cgroup/cpu.max": "150000 100000"},
        Limits(cpu_cores=1.5, memory_total_bytes=8 * GIB, memory_available_bytes=4 * GIB + 512 * MIB),
    ),
    "version 2, the tightest group is not ours but one above": (
        {"proc/self/cgroup": "0::/kubepods/pod1/main",
         "sys/fs/cgroup/kubepods/memory.max": str(64 * GIB), "sys/fs/cgroup/kubepods/memory.current": str(60 * GIB),
         "sys/fs/cgroup/kubepods/pod1/memory.max": str(16 * GIB),
         "sys/fs/cgroup/kubepods/pod1/memory.current": str(2 * GIB),
         "sys/fs/cgroup/kubepods/pod1/cpu.max": "400000 100000",
         "sys/fs/cgroup/kubepods/pod1/main/memory.max": "max",
         "sys/fs/cgroup/kubepods/pod1/main/cpu.max": "800000 100000"},
        Limits(cpu_cores=4, memory_total_bytes=16 * GIB, memory_available_bytes=4 * GIB),
    ),
    "both versions count processes": (
        {"proc/self/cgroup": "5:pids:/old\n0::/new", "sys/fs/cgroup/pids/old/pids.max": "4096",
         "sys/fs/cgroup/new/pids.max": "512", "sys/fs/cgroup/pids/pids.max": "max"},
        Limits(processes=512),
    ),
    "version 2, slowed above memory.high": (
        {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": str(8 * GIB),
         "sys/fs/cgroup/a/memory.high": str(6 * GIB), "sys/fs/cgroup/a/memory.current": str(7 * GIB)},
        Limits(memory_total_bytes=6 * GIB, memory_available_bytes=0),
    ),
    "version 2, outside of our namespace": (
        {"proc/self/cgroup": "0::/../other", "sys/fs/cgroup/memory.max": str(GIB), "sys/fs/other/memory.max": "1"},
        Limits(memory_total_bytes=GIB),
    ),
    "version 1, a container that does not see its host's path": (
        {"proc/self/cgroup": "4:memory:/docker/c0ffee\n3:cpu,cpuacct:/docker/c0ffee\n",
         "sys/fs/cgroup/memory/memory.limit_in_bytes": str(4 * GIB),
         "sys/fs/cgroup/memory/memory.usage_in_bytes": str(3 * GIB),
         "sys/fs/cgroup/memory/memory.stat": V1_STAT,
         "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        Limits(cpu_cores=2, memory_total_bytes=4 * GIB, memory_available_bytes=2 * GIB + 512 * MIB),
    ),
    "version 1, nothing limited": (
        {"proc/self/cgroup": "4:memory:/a",
         "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(UNLIMITED_V1),
         "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(3 * GIB),
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"},
        Limits(),
    ),
    "both versions: memory in the first, processor time in the second": (
        {"proc/self/cgroup": "4:memory:/a\n0::/b", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(GIB),
         "sys/fs/cgroup/unified/b/cpu.max": "50000 100000"},
        Limits(cpu_cores=0.5, memory_total_bytes=GIB),
    ),
    "a line that is none of the kernel's": (
        {"proc/self/cgroup": "what is this\n\n0::/b", "sys/fs/cgroup/b/pids.max": "100"},
        Limits(processes=100),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), TREES.values(), ids=TREES)
def test_the_tightest_limit_counts(tmp_path: Path, files: dict[str, str], expected: Limits) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert read_limits(tmp_path) == expected
