import dataclasses
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import psutil
import pytest

from selfhost.cli.inventory_text import render_inventory
from selfhost.hardware.inventory import Disk, Gpu, GpuLink, Host, Inventory, KernelLimits, PciPath, Storage
from selfhost.units import GIB, KIB, MIB

GOLDEN = Path(__file__).parents[1] / "golden/gpus"
SCENARIOS = sorted(path.stem for path in (Path(__file__).parents[1] / "fakes/nvml/scenarios").glob("*.txt"))


def shown(ran) -> str:
    """All that was said, without the machine that runs the tests: its host and its disks."""
    stdout = re.sub(r"(?ms)^host .*\Z", "host ...\n", ran.stdout)
    return f"{stdout}--- standard error\n{ran.stderr}--- exit code {ran.code}\n"


@pytest.mark.parametrize("scenario", [*SCENARIOS, "no-library"])
def test_gpus_shows_the_machine(selfhost, nvml, machine, golden, scenario: str) -> None:
    machine.write("proc/meminfo", f"MemTotal: {120 * MIB} kB\nMemAvailable: {100 * MIB} kB\n")
    machine.write("proc/4242/comm", "python\n")
    if scenario == "no-library":
        machine.plug_in("0000:1b:00.0")
    else:
        nvml(scenario)
    text = shown(selfhost("gpus"))
    golden(GOLDEN / f"{scenario}.txt", text)
    table = text.partition("--- standard error")[0]
    assert max(map(len, table.splitlines())) <= 100


HOST = Host(
    architecture="x86_64",
    cpu_count=64,
    memory_total_bytes=512 * GIB,
    memory_available_bytes=500 * GIB,
    shm_total_bytes=64 * MIB,
    shm_free_bytes=60 * MIB,
    numa_node_count=2,
    kernel="6.8.0-45-generic",
    init="bash",
    container="runpod",
    root=True,
    limits=KernelLimits(open_files=1_048_576, locked_memory_bytes=8 * MIB, processes=4096),
)


def disk(purpose: str, path: str, **fields) -> Disk:
    return Disk(purpose=purpose, path=path, total_bytes=7168 * GIB, free_bytes=3072 * GIB, **fields)


DISKS = (
    disk("engines", "/root/.local/share/selfhost", filesystem="overlay", storage=Storage.EPHEMERAL, writable=True),
    disk("weights", "/workspace/hub", filesystem="fuse.juicefs", storage=Storage.NETWORK, writable=False),
    disk("state", "/data/state", filesystem="xfs", storage=Storage.LOCAL, writable=True),
    disk("runtime", "/run/selfhost", filesystem="tmpfs", storage=Storage.MEMORY, writable=True),
    disk("cache", "/mnt"),
)


SMALL_BOX = """
mount -t tmpfs -o ro,size=1m tmpfs "$1/ro" && mount -t tmpfs -o size=64k tmpfs /dev/shm && shift && exec "$@"
"""


def test_a_small_dev_shm_and_a_disk_that_may_not_be_written_are_seen(machine, isolated: Path, monkeypatch) -> None:
    (isolated / "ro").mkdir()
    in_box = ["unshare", "--mount", "sh", "-c", SMALL_BOX, "sh", str(isolated)]
    if subprocess.run([*in_box, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may have mounts of its own")
    machine.link("dev/shm", "/dev/shm")
    monkeypatch.setenv("SELFHOST_HOME", f"{isolated}/ro/home")
    ran = subprocess.run(
        [*in_box, sys.executable, "-m", "selfhost", "gpus"], capture_output=True, text=True, check=True
    )
    assert "64 KiB of 64 KiB free in /dev/shm" in ran.stdout
    assert re.search(rf"(?m)^engines +1 MiB +1 MiB  tmpfs, in memory, not writable +{isolated}/ro/home$", ran.stdout)


# A GPU that tells nothing about itself but its name in CUDA
BARE = Gpu(
    index=0,
    uuid="GPU-0",
    name=None,
    memory_total_bytes=None,
    memory_free_bytes=None,
    compute_capability=None,
    pci_bus_id=None,
)
# Two sockets with four GPUs each: memory is reached within a socket only, and one pair was not asked about.
LINKS = tuple(
    GpuLink(
        first=f"GPU-{first}",
        second=f"GPU-{second}",
        pci_path=None
        if (first, second) == (6, 7)
        else (PciPath.SWITCHES if first // 4 == second // 4 else PciPath.SYSTEM),
        nvlink_count=0,
        peer_access=first // 4 == second // 4,
    )
    for first, second in combinations(range(8), 2)
)


@pytest.mark.parametrize(
    ("name", "inventory"),
    [
        (
            "sockets",
            Inventory(
                host=HOST,
                gpus=tuple(replace(BARE, index=index, uuid=f"GPU-{index}") for index in range(8)),
                links=LINKS,
            ),
        ),
        ("host", Inventory(host=HOST, disks=DISKS)),
        (
            "host-unknown",
            Inventory(
                host=Host(architecture="arm64", cpu_count=1, memory_total_bytes=GIB, memory_available_bytes=512 * KIB)
            ),
        ),
    ],
)
def test_what_is_known_is_shown_and_no_more(golden, name: str, inventory: Inventory) -> None:
    golden(GOLDEN / f"{name}.txt", "\n".join(render_inventory(inventory)) + "\n")


def test_this_machine_is_shown_with_the_disks_for_everything(selfhost, isolated: Path) -> None:
    said = selfhost("gpus").stdout
    assert re.search(r"(?m)^host .* cores?, .* of .* memory available$", said)
    for purpose, folder in (
        ("engines", "home"),
        ("weights", "hf_home/hub"),
        ("state", "state"),
        ("runtime", "runtime"),
    ):
        assert re.search(rf"(?m)^{purpose} .* {isolated}/{folder}$", said)


def test_uuids_that_begin_alike_are_shown_as_far_as_they_differ() -> None:
    gpu = replace(BARE, uuid="GPU-11110000-0000-aaaa-1")
    other = replace(BARE, index=1, uuid="GPU-11110000-0000-bbbb-1")
    lines = render_inventory(Inventory(host=HOST, gpus=(gpu, other)))
    assert [line.split()[-1] for line in lines[1:3]] == ["GPU-11110000-0000-a", "GPU-11110000-0000-b"]


def test_hidden_gpus_are_mentioned(selfhost, nvml, monkeypatch) -> None:
    nvml("h100x8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    ran = selfhost("gpus")
    assert [line.split()[0] for line in ran.stdout.splitlines()[1:3]] == ["6", "7"]
    assert ran.stderr == "warning: CUDA_VISIBLE_DEVICES hides 6 more\nnext: selfhost plan\n"


@pytest.mark.parametrize(
    ("visible_devices", "device_order", "warned"),
    [("1,2", "", True), ("1,2", "FASTEST_FIRST", True), ("1,2", "PCI_BUS_ID", False), ("GPU-2222000", "", False)],
)
def test_indices_that_others_count_differently_are_pointed_out(
    selfhost, nvml, monkeypatch, visible_devices: str, device_order: str, warned
) -> None:
    nvml("mixed")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_devices)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", device_order)
    assert ('CUDA_VISIBLE_DEVICES="1,2" is read in the order of nvidia-smi' in selfhost("gpus").stderr) is warned


def test_json_is_the_whole_inventory(selfhost, nvml) -> None:
    nvml("l4")
    ran = selfhost("gpus", "--json")
    document = json.loads(ran.stdout)
    assert set(document) == {"format_version", *(field.name for field in dataclasses.fields(Inventory))}
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


def devices(selfhost) -> dict[str, int | None]:
    """What `gpus` finds: the free bytes of each device by its UUID."""
    return {gpu["uuid"]: gpu["memory_free_bytes"] for gpu in json.loads(selfhost("gpus", "--json").stdout)["gpus"]}


def test_what_changes_is_seen_at_the_next_look(selfhost, nvml) -> None:
    scenario = nvml("a100mig")
    slices, whole = [f"MIG-aaaa{index:04}-1111-2222-3333-444444444444" for index in range(3)], 85899345920
    card, other = (f"GPU-1111000{index}-0000-0000-0000-00000000000{index}" for index in range(2))
    text = scenario.path.read_text()
    sizes = dict(zip(slices, (42144366592, 20937965568, 10200547328), strict=True))
    assert devices(selfhost) == {**sizes, other: whole}

    # MIG devices are made anew: one is left, under another UUID
    remade = re.sub(r"(?s)\[mig\]\n.*?(?=\n\n)", "[mig]\nuuid=MIG-bbbb\nmemory_total_bytes=7", text, count=1)
    scenario.become(remade)
    assert devices(selfhost) == {"MIG-bbbb": 7, other: whole}

    # MIG mode is switched off, and somebody takes memory of the card
    taken = re.sub(r"(?s)\[mig\]\n.*?(?=\n\n)", "memory_used_bytes=1000", remade, count=1).replace(
        "mig_mode=1", "mig_mode=0"
    )
    scenario.become(taken)
    assert devices(selfhost) == {card: whole - 1000, other: whole}

    # and gives it back, while the other card falls off the bus
    scenario.become(taken.replace("memory_used_bytes=1000", "memory_used_bytes=0"))
    scenario.error("nvmlDeviceGetMemoryInfo*", 15, gpu=1)
    ran = selfhost("gpus", "--json")
    assert "left out: GPU 1 is lost" in ran.stderr
    assert [gpu["memory_free_bytes"] for gpu in json.loads(ran.stdout)["gpus"]] == [whole]


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
