"""Whole machines: nvidia-ml-py on the scripted NVML (tests/fakes/nvml), and a PCI bus in a folder."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from selfhost.hardware.detect import assemble, detect
from selfhost.hardware.failures import Failure
from selfhost.hardware.inventory import Accelerator, Gpu, GpuProcess, Host, Inventory, MigDevice, UnusableGpu
from selfhost.hardware.nvml_answer import NvmlAnswer
from selfhost.units import GIB, MIB

SCENARIOS = Path(__file__).parents[1] / "fakes/nvml/scenarios"

H100 = Gpu(
    index=0,
    uuid="GPU-11110000-0000-0000-0000-000000000000",
    name="NVIDIA H100 80GB HBM3",
    memory_total_bytes=85520809984,
    memory_free_bytes=85520809984 - 629 * MIB,
    compute_capability=(9, 0),
    pci_bus_id="0000:1b:00.0",
    power_limit_watts=700,
    power_default_watts=700,
    ecc_enabled=True,
    ecc_uncorrected_errors=0,
    row_remap_pending=False,
    row_remap_failed=False,
    processes=(),
)
NO_ECC = {"ecc_enabled": None, "ecc_uncorrected_errors": None, "row_remap_pending": None, "row_remap_failed": None}
L4 = replace(
    H100,
    power_limit_watts=72,
    power_default_watts=72,
    name="NVIDIA L4",
    memory_total_bytes=24152899584,
    memory_free_bytes=24152899584 - 500 * MIB,
    compute_capability=(8, 9),
)


def at(gpu: Gpu, index: int, bus: str, uuid: str = "GPU-1111") -> Gpu:
    return replace(gpu, index=index, uuid=f"{uuid}{index:04}-0000-0000-0000-{index:012}", pci_bus_id=f"0000:{bus}:00.0")


RTX_4090 = replace(
    L4,
    **NO_ECC,
    name="NVIDIA GeForce RTX 4090",
    power_limit_watts=450,
    power_default_watts=450,
    memory_total_bytes=25757220864,
    memory_free_bytes=25757220864 - 400 * MIB,
)
RTX_3090 = replace(
    H100,
    **NO_ECC,
    name="NVIDIA GeForce RTX 3090",
    memory_total_bytes=24 * GIB,
    memory_free_bytes=24 * GIB,
    compute_capability=(8, 6),
    pci_bus_id="0000:01:00.0",
)
H100_PCIE = replace(H100, name="NVIDIA H100 PCIe", memory_free_bytes=85520809984)
V100 = replace(
    H100,
    name="Tesla V100-SXM2-16GB",
    memory_total_bytes=16945512448,
    memory_free_bytes=16945512448,
    compute_capability=(7, 0),
)
A100 = replace(
    H100,
    name="NVIDIA A100-SXM4-80GB",
    memory_total_bytes=80 * GIB,
    memory_free_bytes=80 * GIB,
    compute_capability=(8, 0),
)

HOLDER = GpuProcess(pid=4242, used_bytes=74088185856, command="python")
SECRETIVE = GpuProcess(pid=4243, used_bytes=None, command=None)


def slice_of(card: Gpu, index: int, profile: str, gpu_instance: int) -> Gpu:
    size = {"3g.40gb": 42144366592, "2g.20gb": 20937965568, "1g.10gb": 10200547328}[profile]
    return replace(
        card,
        uuid=f"MIG-aaaa{index:04}-1111-2222-3333-444444444444",
        name=f"{card.name} MIG {profile}",
        memory_total_bytes=size,
        memory_free_bytes=size,
        mig=MigDevice(
            index=index,
            parent_uuid=card.uuid,
            card_memory_total_bytes=card.memory_total_bytes,
            gpu_instance=gpu_instance,
            compute_instance=0,
        ),
    )


# scenario: (usable GPUs, driver, CUDA)
WORKING = {
    "h100x8": (
        [
            replace(at(H100, index, bus), numa_node=index // 4)
            for index, bus in enumerate(("1b", "3b", "5b", "7b", "9b", "bb", "db", "fb"))
        ],
        "580.95.05",
        (13, 0),
    ),
    "rtx4090x2": ([at(RTX_4090, 0, "01"), at(RTX_4090, 1, "21")], "550.120", (12, 4)),
    "l4": ([L4], "535.183.01", (12, 2)),
    # no version 2 of the memory query
    "v100": ([at(V100, index, bus) for index, bus in enumerate(("1b", "3b", "5b", "7b"))], "470.256.02", (11, 4)),
    "mixed": (
        [
            RTX_3090,
            replace(H100_PCIE, index=1, uuid="GPU-22220000-0000-0000-0000-000000000000", pci_bus_id="0000:41:00.0"),
            replace(H100_PCIE, index=2, uuid="GPU-22220001-0000-0000-0000-000000000001", pci_bus_id="0000:61:00.0"),
        ],
        "580.95.05",
        (13, 0),
    ),
    "busy": (
        [
            replace(H100, memory_free_bytes=85520809984 - 629 * MIB - 70 * GIB, processes=(HOLDER, SECRETIVE)),
            at(H100, 1, "3b"),
        ],
        "580.95.05",
        (13, 0),
    ),
    "spark": (
        [
            replace(
                H100,
                **NO_ECC,
                name="NVIDIA GB10",
                memory_total_bytes=120 * GIB,
                memory_free_bytes=100 * GIB,
                compute_capability=(12, 1),
                unified_memory=True,
                numa_node=0,
            )
        ],
        "580.95.05",
        (13, 0),
    ),
    "vgpu": (
        [
            replace(
                A100,
                **NO_ECC,
                name="GRID A100D-40C",
                memory_total_bytes=40 * GIB,
                memory_free_bytes=40 * GIB,
                virtual=True,
                power_limit_watts=None,
                power_default_watts=None,
            )
        ],
        "580.95.05",
        (13, 0),
    ),
    "lost": (
        [replace(H100, memory_free_bytes=85520809984, ecc_uncorrected_errors=3, row_remap_pending=True)],
        "580.95.05",
        (13, 0),
    ),
    "a100mig": (
        [
            *(slice_of(A100, 0, "3g.40gb", 1), slice_of(A100, 1, "2g.20gb", 5), slice_of(A100, 2, "1g.10gb", 13)),
            at(A100, 1, "3b"),
        ],
        "580.95.05",
        (13, 0),
    ),
    "nogpu": ([], "580.95.05", (13, 0)),
}


@pytest.mark.parametrize(("scenario", "expected"), WORKING.items(), ids=WORKING)
def test_usable_gpus_are_as_nvml_and_the_system_describe_them(nvml, machine, scenario: str, expected) -> None:
    machine.write("proc/meminfo", f"MemTotal: {120 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {100 * MIB} kB\n")
    machine.write("proc/4242/comm", "python\n")
    nvml(scenario)
    found = detect()
    assert (list(found.gpus), found.driver_version, found.cuda_version) == expected
    assert (found.problem, found.hint, found.hidden_gpu_count) == (None, None, 0)


def test_the_process_ids_of_another_namespace_have_no_names_here(nvml, machine) -> None:
    machine.write("proc/4242/comm", "innocent\n")
    machine.link("proc/self/ns/pid", "pid:[4026532198]")
    nvml("busy")
    assert [process.command for process in detect().gpus[0].processes or ()] == [None, None]


@pytest.mark.parametrize(
    ("scenario", "index", "name", "cause"),
    [
        ("lost", 1, None, "GPU 1 is lost: it has fallen off the bus"),
        ("a100mig_empty", 0, "NVIDIA A100-SXM4-80GB", "GPU 0 is in MIG mode and has no MIG device"),
    ],
)
def test_a_gpu_that_fails_is_told_apart_and_hides_no_other(nvml, scenario: str, index: int, name, cause: str) -> None:
    nvml(scenario)
    (unusable,) = detect().unusable_gpus
    assert (unusable.index, unusable.name, unusable.cause) == (index, name, cause)
    assert unusable.uuid == f"GPU-1111000{index}-0000-0000-0000-00000000000{index}"
    assert unusable.hint


ONE_GPU = "\n[gpu]\nname=NVIDIA L4\nuuid=GPU-1\npci_bus_id=00000000:1B:00.0\ncompute_capability=8.9\n"
ANOTHER = ONE_GPU.replace("1B", "2B").replace("GPU-1", "GPU-2")

# scenario: (words of the problem, words of the hint)
BROKEN = {
    "nodriver": ("the NVIDIA driver is not loaded", "modprobe nvidia"),
    "mismatch": ("differ in version", "reboot"),
    f"error=nvmlInitWithFlags * 4{ONE_GPU}": ("this user may not talk to the NVIDIA driver", "ls -l /dev/nvidia*"),
    f"error=nvmlInitWithFlags * 12{ONE_GPU}": ("not its driver's library libnvidia-ml.so.1", "--gpus all"),
    f"error=nvmlInitWithFlags * 28{ONE_GPU}": ("the NVIDIA driver lists none", "dmesg"),
    f"error=nvmlInitWithFlags * 999{ONE_GPU}": ("unknown error", "systemctl daemon-reload"),
    f"error=nvmlInitWithFlags * 17{ONE_GPU}": ("has blocked the request (NVML error 17)", "nvidia-smi"),
    f"error=nvmlDeviceGetHandleByIndex_v2 0 15{ONE_GPU}": ("GPU 0 is lost", "reboot"),
    f"error=nvmlDeviceGetHandleByIndex_v2 0 4{ONE_GPU}": ("GPU 0 may not be used by this user", "ls -l"),
    f"error=nvmlDeviceGetHandleByIndex_v2 0 999{ONE_GPU}": ("GPU 0 answers with an unknown error", "gpu-reset -i 0"),
    f"error=nvmlDeviceGetMemoryInfo* 0 16{ONE_GPU}": ("GPU 0 must be reset", "nvidia-smi --gpu-reset -i 0"),
    f"error=nvmlDeviceGetUUID 0 17{ONE_GPU}": ("GPU 0 cannot be queried", "nvidia-smi -i 0"),
    f"error=nvmlInitWithFlags * 15{ONE_GPU}": ("a GPU is lost", "reboot"),
    f"error=nvmlInitWithFlags * 16{ONE_GPU}": ("a GPU must be reset", "`sudo nvidia-smi --gpu-reset`"),
    f"error=nvmlDeviceGetCount_v2 * 999{ONE_GPU}": ("the NVIDIA driver answers with an unknown error", "dmesg"),
    f"error=nvmlDeviceGetHandleByIndex_v2 * 15{ONE_GPU}{ANOTHER}": ("(1 more fail too)", "reboot"),
    f"nonsense{ONE_GPU}": ("not a line of a scenario: nonsense", "python -m selfhost.hardware.nvml_query"),
}


@pytest.mark.parametrize(("scenario", "expected"), BROKEN.items(), ids=[text.partition("\n")[0] for text in BROKEN])
def test_gpus_that_cannot_be_used_are_a_problem_with_a_next_step(nvml, scenario: str, expected) -> None:
    nvml(scenario)
    found = detect()
    assert found.gpus == ()
    assert found.problem
    assert found.hint
    assert (expected[0] in found.problem, expected[1] in found.hint) == (True, True), (found.problem, found.hint)


def test_one_fact_that_fails_is_unknown_and_leaves_the_gpu_usable(nvml) -> None:
    scenario = nvml("l4")
    for function in ("System*", "Device*"):
        scenario.error(f"nvml{function}", 999)
    for function in ("Count_v2", "HandleByIndex_v2", "UUID"):
        scenario.error(f"nvmlDeviceGet{function}", 0)
    found = detect()
    assert found.gpus == (
        Gpu(
            index=0,
            uuid=L4.uuid,
            name=None,
            memory_total_bytes=None,
            memory_free_bytes=None,
            compute_capability=None,
            pci_bus_id=None,
        ),
    )
    assert (found.driver_version, found.cuda_version, found.problem) == (None, None, None)


def test_bytes_that_are_no_text_cost_one_answer(nvml) -> None:
    scenario = nvml("h100x8")
    scenario.path.write_bytes(scenario.path.read_bytes().replace(b"name=NVIDIA", b"name=\xff", 1))
    found = detect()
    assert (len(found.gpus), found.gpus[0].name) == (8, None)
    scenario.path.write_bytes(scenario.path.read_bytes().replace(b"uuid=GPU-", b"uuid=\xff", 1))
    found = detect()
    assert (len(found.gpus), [gpu.index for gpu in found.unusable_gpus]) == (7, [0])


# scenario: (usable GPUs, words about the first one that is not, the problem)
HANGS = {
    "hang": ([], "GPU 0 does not answer: the driver hangs when asked to open it", "GPU 0 does not answer"),
    "error=nvmlInitWithFlags * 0 600000\n@l4": ([], None, "the NVIDIA driver did not answer within 2.0 s"),
    "error=nvmlDevice* 1 0 600000\n@busy": ([0], "GPU 1 does not answer: the driver hangs when asked to open it", None),
    "error=nvmlDeviceGetP2PStatus * 0 600000\n@busy": ([0], "asked how it is linked to another GPU", None),
    "error=nvmlDeviceGetTotalEccErrors 0 0 600000\n@busy": ([1], "asked for its ECC errors", None),
    # it takes its time with one answer after another, in all longer than a driver may be silent
    "error=nvmlDeviceGetHandleByIndex_v2 0 0 1500\nerror=nvmlDeviceGetUUID 0 0 1500\n@busy": ([0, 1], None, None),
}


def scenario_text(scenario: str) -> str:
    """Rules before one of the files."""
    rules, _, name = scenario.rpartition("@")
    return rules + (SCENARIOS / f"{name}.txt").read_text()


@pytest.mark.parametrize(("scenario", "expected"), HANGS.items(), ids=[name.replace("\n", " ") for name in HANGS])
def test_a_driver_that_hangs_is_given_up_and_costs_no_gpu_that_answers(nvml, scenario: str, expected) -> None:
    nvml(scenario_text(scenario))
    found = detect()
    assert not [child for child in psutil.Process().children(recursive=True) if "nvml_query" in str(child.cmdline())]
    usable, words, problem = expected
    assert [gpu.index for gpu in found.gpus] == usable
    assert all(words in gpu.cause and "nvidia-smi" in gpu.hint for gpu in found.unusable_gpus)
    assert len(found.unusable_gpus) == (1 if words else 0)
    assert (found.problem or "").startswith(problem or "")
    assert bool(found.problem) == bool(problem)


def test_a_gpu_that_vanishes_is_missed_at_the_next_look(nvml) -> None:
    scenario = nvml("h100x8")
    assert len(detect().gpus) == 8
    scenario.error("nvmlDeviceGetHandleByIndex_v2", 15, gpu=3)
    found = detect()
    assert [gpu.index for gpu in found.gpus] == [0, 1, 2, 4, 5, 6, 7]
    assert [gpu.index for gpu in found.unusable_gpus] == [3]


@pytest.mark.parametrize(
    ("visible_devices", "indices", "hidden"),
    [("2,0", [2, 0], 1), ("GPU-2222", [], 3), ("GPU-22220001", [2], 2), ("1,9,0", [1], 2)],
)
def test_only_gpus_that_engines_will_see_are_planned_on(
    nvml, monkeypatch, visible_devices: str, indices: list[int], hidden: int
) -> None:
    nvml("mixed")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_devices)
    found = detect()
    assert ([gpu.index for gpu in found.gpus], found.hidden_gpu_count) == (indices, hidden)


@pytest.mark.parametrize("visible_devices", ["", "-1", "7"])
def test_hiding_every_gpu_is_a_problem_not_a_machine_without_one(nvml, monkeypatch, visible_devices: str) -> None:
    nvml("l4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_devices)
    assert detect().problem == f'CUDA_VISIBLE_DEVICES="{visible_devices}" hides every GPU'


MIG = "MIG-aaaa{:04}-1111-2222-3333-444444444444".format


@pytest.mark.parametrize(
    ("visible_devices", "labels"),
    [
        (None, ["0:0", "0:1", "0:2", "1"]),
        ("0", ["0:0", "0:1", "0:2"]),  # a card in MIG mode stands for all its devices
        (MIG(2), ["0:2"]),
        (f"{MIG(2)},{MIG(0)}", ["0:2", "0:0"]),  # each engine gets one of its own
        ("MIG-GPU-11110000-0000-0000-0000-000000000000/5/0,1", ["0:1", "1"]),  # as drivers before 470 named them
        ("GPU-11110001", ["1"]),
    ],
)
def test_mig_devices_are_chosen_by_their_own_names_or_with_their_card(
    nvml, monkeypatch, visible_devices: str | None, labels: list[str]
) -> None:
    nvml("a100mig")
    if visible_devices:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_devices)
    found = detect()
    assert [gpu.label for gpu in found.gpus] == labels
    assert found.hidden_gpu_count == 4 - len(labels)


def test_links_are_those_of_the_gpus_that_are_seen(nvml, monkeypatch) -> None:
    nvml("a6000x4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0,2")
    uuids = [gpu.uuid for gpu in detect().gpus]
    links = [(uuids.index(link.first), uuids.index(link.second), link) for link in detect().links]
    assert {(first, second, link.nvlink_count, link.pci_path) for first, second, link in links} == {
        (1, 0, 4, "PHB"),
        (1, 2, 0, "SYS"),
        (0, 2, 0, "SYS"),
    }
    assert all(link.peer_access for _, _, link in links)


def test_peer_access_over_pcie_is_no_nvlink(nvml) -> None:
    nvml("pcie_p2p=1\n" + (SCENARIOS / "rtx4090x2.txt").read_text())
    (link,) = detect().links
    assert (link.peer_access, link.nvlink_count, link.pci_path) == (True, 0, "PHB")


def test_on_sixteen_gpus_every_pair_is_asked_about_once(nvml) -> None:
    scenario = (SCENARIOS / "h100x8.txt").read_text()
    head, *gpus = scenario.split("[gpu]\n")
    more = [gpu.replace("GPU-1111", "GPU-2222").replace("00000000:", "00000001:") for gpu in gpus]
    nvml("[gpu]\n".join([head, *gpus, *more]))
    found = detect()
    assert len({(link.first, link.second) for link in found.links}) == len(found.links) == 16 * 15 / 2
    assert {(link.nvlink_count, link.peer_access) for link in found.links} == {(18, True)}


JETSON = "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0"


def test_a_jetson_without_nvml_needs_a_newer_jetpack(machine) -> None:
    assert detect().problem is None
    machine.write("proc/device-tree/compatible", JETSON)
    found = detect()
    assert found.problem == "this Jetson has no NVML: its JetPack is older than 6"
    assert "JetPack 6" in (found.hint or "")


@pytest.mark.parametrize("file", ["proc/device-tree/compatible", "etc/nv_tegra_release"])
def test_a_jetson_with_nvml_has_a_gpu_on_no_bus_and_the_hosts_memory(nvml, machine, file: str) -> None:
    machine.write("proc/meminfo", f"MemTotal: {64 * MIB} kB\nMemAvailable: {50 * MIB} kB\n")
    machine.write(file, JETSON)
    scenario = nvml("spark")
    scenario.error("nvmlDeviceGetPciInfo_v3", 3)
    (gpu,) = detect().gpus
    assert (gpu.unified_memory, gpu.memory_total_bytes, gpu.pci_bus_id) == (True, 64 * GIB, None)


def test_an_nvidia_gpu_without_its_driver_is_a_problem(machine) -> None:
    machine.plug_in("0000:1b:00.0")
    found = detect()
    assert found.accelerators == (Accelerator(vendor="NVIDIA", pci_address="0000:1b:00.0"),)
    assert found.problem == "there is an NVIDIA GPU, but not its driver's library libnvidia-ml.so.1"


def test_gpus_of_others_are_a_problem_unless_nvidias_are_there(machine, nvml) -> None:
    for bus in range(8):
        machine.plug_in(f"0000:{bus:02}:00.0", class_code=0x120000, vendor=0x1002)
    problem = "this machine has 8 AMD accelerators, and selfhost runs models on NVIDIA GPUs or on the CPU"
    assert detect().problem == problem
    nvml("l4")
    assert detect().problem is None


@pytest.mark.parametrize("scenario", ["nogpu", "error=nvmlInitWithFlags * 9\n", "error=nvmlInitWithFlags * 28\n"])
def test_an_image_with_nvidias_library_on_a_machine_without_a_gpu_is_no_problem(nvml, scenario: str) -> None:
    nvml(scenario)
    found = detect()
    assert (found.gpus, found.accelerators, found.problem) == ((), (), None)


LOOK = """
import sys
sys.addaudithook(lambda event, _: print("process") if event == "subprocess.Popen" else None)
from selfhost.hardware.detect import detect
print(len(detect().gpus), "GPUs")
print("pynvml" in sys.modules)
"""


@pytest.mark.parametrize(("scenario", "said"), [(None, "0 GPUs\nFalse\n"), ("h100x8", "process\n8 GPUs\nFalse\n")])
def test_nvml_is_never_in_this_process_and_without_it_there_is_no_other(nvml, scenario: str | None, said: str) -> None:
    if scenario:
        nvml(scenario)
    ran = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert ran.stdout == said


def test_modules_in_the_current_folder_do_not_get_into_the_query(nvml, tmp_path, monkeypatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the real json')")
    monkeypatch.chdir(tmp_path)
    nvml("l4")
    assert detect().problem is None


def test_every_inventory_has_gpus_or_a_problem_or_no_accelerator() -> None:
    host = Host(architecture="x86_64", cpu_count=1, memory_total_bytes=1, memory_available_bytes=1)
    lost = UnusableGpu(index=1, uuid=None, name=None, pci_bus_id=None, cause="GPU 1 is lost", hint="reboot")
    failure = Failure(cause="it fails", hint="mend it")
    buses = [(), ("NVIDIA",), ("AMD",), ("NVIDIA", "AMD")]
    answers = [
        NvmlAnswer(failure=failure, error_code=9),
        NvmlAnswer(failure=failure, error_code=999),
        NvmlAnswer(failure=failure),
        *(NvmlAnswer(gpus=gpus) for gpus in ((H100,), (H100, lost), (lost,))),
    ]
    for vendors, answer, visible in itertools.product(buses, answers, (None, "", "1")):
        found: Inventory = assemble(
            host=host,
            accelerators=[Accelerator(vendor=vendor, pci_address="") for vendor in vendors],
            nvidia_present="NVIDIA" in vendors,
            answer=answer,
            visible_devices=visible,
        )
        assert not (found.gpus and found.problem)
        assert bool(found.problem) == bool(found.hint)
        if not found.gpus and not found.problem:
            assert (vendors, answer.error_code) == ((), 9)


def test_this_very_machine_can_be_looked_at(monkeypatch) -> None:
    monkeypatch.delenv("SELFHOST_HOST_ROOT")
    assert detect().host.architecture == os.uname().machine
