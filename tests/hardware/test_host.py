import os
import resource
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from selfhost.hardware.cgroup import Limits
from selfhost.hardware.container import read_container
from selfhost.hardware.host import limit, read_host
from selfhost.hardware.inventory import Host, KernelLimits
from selfhost.units import GIB, KIB


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


@pytest.mark.parametrize(
    ("hard", "allowed", "expected"), [(None, None, None), (4096, None, 4096), (None, 512, 512), (4096, 9999, 4096)]
)
def test_processes_are_bounded_by_the_user_and_by_the_group(hard, allowed, expected) -> None:
    machine = replace(host(1, 1, 1), limits=KernelLimits(processes=hard))
    assert limit(machine, Limits(processes=allowed)).limits.processes == expected


def test_this_machine_reads_as_it_is(tmp_path: Path) -> None:
    found = read_host(tmp_path, {})
    assert (found.architecture, found.kernel) == (os.uname().machine, os.uname().release)
    assert 1 <= found.cpu_count <= (os.cpu_count() or 1)
    assert 0 < found.memory_available_bytes <= found.memory_total_bytes
    assert found.root is (os.geteuid() == 0)
    assert found.limits.open_files == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize(("uid", "expected"), [(0, None), (1000, 100)])
def test_the_users_limit_of_processes_does_not_hold_root(tmp_path: Path, monkeypatch, uid: int, expected) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert read_host(tmp_path, {}).limits.processes == expected


def test_memory_is_known_where_a_sandbox_hides_the_table_of_it(tmp_path: Path, monkeypatch) -> None:
    def hidden() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    found = read_host(tmp_path, {})
    assert 0 < found.memory_available_bytes <= found.memory_total_bytes


def test_where_there_is_no_proc_and_no_dev_much_is_unknown_and_nothing_fails(tmp_path: Path) -> None:  # as on macOS
    found = read_host(tmp_path, {})
    unknown = ("shm_total_bytes", "shm_free_bytes", "numa_node_count", "init", "container")
    assert [getattr(found, field) for field in unknown] == [None] * len(unknown)


def test_what_the_system_tells_is_read(machine) -> None:
    machine.write("proc/meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB\nHugePages_Total:\nMemAvailable:    512 kB\n")
    machine.write("proc/1/comm", "tini\n")
    machine.write("sys/devices/system/node/node0/cpulist", "")
    machine.write("sys/devices/system/node/node1/cpulist", "")
    machine.write("sys/devices/system/node/online", "0-1")
    machine.write("dev/shm/segment", "")
    found = read_host(machine.root, {})
    assert (found.memory_total_bytes, found.memory_available_bytes) == (1024 * KIB, 512 * KIB)
    assert (found.init, found.numa_node_count) == ("tini", 2)
    assert 0 <= (found.shm_free_bytes or -1) <= (found.shm_total_bytes or -1)


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, None),
        ({"proc/1/cgroup": "0::/init.scope\n"}, {}, None),
        ({".dockerenv": ""}, {}, "docker"),
        ({".dockerenv": ""}, {"RUNPOD_POD_ID": "abc"}, "runpod"),
        ({".dockerenv": ""}, {"VAST_CONTAINERLABEL": "C.1"}, "vast.ai"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run/.containerenv": ""}, {"container": "oci"}, "podman"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"proc/1/cgroup": "0::/kubepods.slice/pod1\n"}, {}, "kubernetes"),
        ({"proc/1/cgroup": "4:memory:/docker/c0ffee\n"}, {}, "docker"),
    ],
)
def test_a_container_is_recognised_by_what_its_starter_leaves(tmp_path: Path, files, environ, expected) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_container(tmp_path, environ) == expected
