import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from selfhost.hardware.inventory import Gpu, Inventory

HOST = re.compile(r"(?m)^host    .*$(?:\ndisk    .*$)*")  # the machine that runs the tests

# scenario: (exit code, standard output with the host's line cut, standard error)
SHOWN = {
    None: (
        0,
        """\
no GPU: models run on the CPU

host ...
""",
        "next: selfhost plan\n",
    ),
    "rtx4090x2": (
        0,
        """\
GPU  NAME                     MEMORY FREE  MEMORY    COMPUTE  UUID
0    NVIDIA GeForce RTX 4090  23.6 GiB     24.0 GiB  8.9      GPU-11110000-0000-0000-0000-000000000000
1    NVIDIA GeForce RTX 4090  23.6 GiB     24.0 GiB  8.9      GPU-11110001-0000-0000-0000-000000000001

driver  550.120, CUDA 12.4 or older
host ...
""",
        "next: selfhost plan\n",
    ),
    "spark": (
        0,
        """\
GPU  NAME         MEMORY FREE  MEMORY   COMPUTE  UUID
0    NVIDIA GB10  unknown      unknown  12.1     GPU-11110000-0000-0000-0000-000000000000

driver  580.95.05, CUDA 13.0 or older
host ...
""",
        "next: selfhost plan\n",
    ),
    "lost": (
        0,
        """\
GPU  NAME                   MEMORY FREE  MEMORY    COMPUTE  UUID
0    NVIDIA H100 80GB HBM3  79.6 GiB     79.6 GiB  9.0      GPU-11110000-0000-0000-0000-000000000000

driver  580.95.05, CUDA 13.0 or older
host ...
""",
        """\
warning: left out: GPU 1 is lost: it has fallen off the bus
hint: `sudo dmesg | grep Xid` says why; reboot, and if it happens again power the machine off and on, \
or have the GPU replaced
next: selfhost plan
""",
    ),
    "mismatch": (
        4,
        "pci     NVIDIA at 0000:1b:00.0\nhost ...\n",
        """\
error: the NVIDIA driver in the kernel and its library differ in version: it was upgraded while loaded
hint: reboot; or stop what uses the GPUs and reload it: `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset \
nvidia && sudo modprobe nvidia` (in a container: on its host, then restart the container)
""",
    ),
}


@pytest.mark.parametrize(("scenario", "expected"), SHOWN.items())
def test_gpus_shows_the_machine(selfhost, nvml, scenario: str | None, expected) -> None:
    if scenario:
        nvml(scenario)
    ran = selfhost("gpus")
    assert (ran.code, HOST.sub("host ...", ran.stdout), ran.stderr) == expected


def test_the_host_stands_in_one_line(selfhost) -> None:
    assert re.search(
        r"(?m)^host    \w+, \d+ cores?, [\d.]+ [GT]iB of [\d.]+ [GT]iB memory available$", selfhost("gpus").stdout
    )


def test_the_disks_for_engines_and_weights_are_shown(selfhost, isolated: Path) -> None:
    shown = selfhost("gpus").stdout
    for purpose, folder in (("engines", "home"), ("weights", "hf_home/hub")):
        assert re.search(rf"(?m)^disk    .+ of .+ free for {purpose} in {isolated}/{folder}$", shown)


def test_hidden_gpus_are_mentioned(selfhost, nvml, monkeypatch) -> None:
    nvml("h100x8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    ran = selfhost("gpus")
    assert [line.split()[0] for line in ran.stdout.splitlines()[1:3]] == ["6", "7"]
    assert ran.stderr == "warning: CUDA_VISIBLE_DEVICES hides 6 more\nnext: selfhost plan\n"


def test_json_is_the_whole_inventory(selfhost, nvml) -> None:
    nvml("l4")
    ran = selfhost("gpus", "--json")
    document = json.loads(ran.stdout)
    assert set(document) == {"format_version", "claims", *(field.name for field in dataclasses.fields(Inventory))}
    gpu = document["gpus"][0]
    assert set(gpu) == {field.name for field in dataclasses.fields(Gpu)}
    assert gpu["uuid"] == "GPU-11110000-0000-0000-0000-000000000000"
    assert (gpu["memory_total_bytes"], gpu["memory_free_bytes"]) == (24152899584, 23628611584)
    assert document["cuda_version"] == [12, 2]
    assert (ran.code, ran.stderr) == (0, "")


def test_json_tells_the_problem_too(selfhost, nvml) -> None:
    nvml("nodriver")
    ran = selfhost("gpus", "--json")
    assert ran.code == 4
    assert json.loads(ran.stdout)["problem"] == "the NVIDIA driver is not loaded"
    assert ran.stderr.startswith("error: the NVIDIA driver is not loaded\nhint: load it with `sudo modprobe nvidia`")


def test_ctrl_c_while_the_driver_hangs_ends_the_query_too(nvml) -> None:
    nvml("hang")
    selfhost = subprocess.Popen([sys.executable, "-m", "selfhost", "gpus"], stderr=subprocess.PIPE, text=True)
    while not (queries := [child for child in psutil.Process(selfhost.pid).children() if _has_loaded_nvml(child)]):
        assert selfhost.poll() is None
    selfhost.send_signal(signal.SIGINT)
    assert selfhost.communicate(timeout=30)[1].endswith("interrupted\n")
    assert selfhost.returncode == 130
    psutil.wait_procs(queries, timeout=30)
    assert not any(query.is_running() for query in queries)


def _has_loaded_nvml(process: psutil.Process) -> bool:
    try:
        return "libnvidia-ml" in Path(f"/proc/{process.pid}/maps").read_text()
    except (FileNotFoundError, PermissionError):  # not there yet
        return False
