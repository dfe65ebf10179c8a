"""Which build of vLLM each kind of box gets, and in which words a box gets none."""

from dataclasses import replace

import pytest

from selfhost.errors import BlockedError, ExitCode
from selfhost.hardware.inventory import Gpu, Host, Inventory, MigDevice
from selfhost.planner.engine_build import choose_build
from selfhost.planner.plan import Platform, Variant

CARDS = {
    "Tesla P100-PCIE-16GB": (6, 0),
    "Tesla V100-SXM2-16GB": (7, 0),
    "Tesla T4": (7, 5),
    "NVIDIA A100-SXM4-80GB": (8, 0),
    "NVIDIA GeForce RTX 3090": (8, 6),
    "Orin": (8, 7),
    "NVIDIA L4": (8, 9),
    "NVIDIA H100 PCIe": (9, 0),
    "NVIDIA B200": (10, 0),
    "NVIDIA B300": (10, 3),
    "NVIDIA Thor": (11, 0),
    "NVIDIA GeForce RTX 5090": (12, 0),
    "NVIDIA GB10": (12, 1),
    "mystery": None,
}


def box(
    *names: str, driver: str | None = "580.95.05", cuda: tuple[int, int] | None = (13, 0), on: str = "x86_64"
) -> Inventory:
    return Inventory(
        host=Host(architecture=on, cpu_count=8, memory_total_bytes=1 << 36, memory_available_bytes=1 << 35),
        gpus=tuple(
            Gpu(
                index=index,
                uuid=f"GPU-{index}",
                name=name,
                memory_total_bytes=None,
                memory_free_bytes=None,
                compute_capability=CARDS[name],
                pci_bus_id=None,
            )
            for index, name in enumerate(names)
        ),
        driver_version=driver,
        cuda_version=cuda,
    )


R535 = {"driver": "535.183.01", "cuda": (12, 2)}
R470 = {"driver": "470.256.02", "cuda": (11, 4)}
UNKNOWN = {"driver": None, "cuda": None}
ARM = {"on": "aarch64"}

BUILDS = [
    (box(driver=None, cuda=None), "cpu"),
    # every generation that torch 2.13 still has code for
    *((box(name), "cu130") for name in CARDS if name not in {"Tesla P100-PCIE-16GB", "Tesla V100-SXM2-16GB", "Orin"}
      and name != "NVIDIA Thor"),
    *((box(name, **ARM), "cu130") for name in ("NVIDIA H100 PCIe", "NVIDIA B200", "NVIDIA Thor", "NVIDIA GB10")),
    # the driver decides which CUDA
    (box("NVIDIA H100 PCIe", driver="580.65.06"), "cu130"),
    (box("NVIDIA H100 PCIe", driver="575.57.08", cuda=(12, 9)), "cu129"),
    (box("NVIDIA A100-SXM4-80GB", **R535), "cu129"),
    (box("NVIDIA A100-SXM4-80GB", driver="525.60.13", cuda=(12, 0)), "cu129"),
    (box("NVIDIA H100 PCIe", **R535, **ARM), "cu129"),
    # CUDA's compatibility package over an old driver, and a Jetson's driver with numbers of its own
    (box("NVIDIA H100 PCIe", driver="535.183.01", cuda=(13, 0)), "cu130"),
    (box("NVIDIA Thor", driver="580.00", cuda=(13, 0), **ARM), "cu130"),
    # what is unknown is not held against the box
    (box("NVIDIA H100 PCIe", driver="535.183.01", cuda=None), "cu129"),
    (box("NVIDIA H100 PCIe", driver="580.95.05", cuda=None), "cu130"),
    (box("NVIDIA H100 PCIe", **UNKNOWN), "cu130"),
    # several generations: the build that has code for all
    (box("Tesla T4", "NVIDIA H100 PCIe", "NVIDIA GeForce RTX 5090"), "cu130"),
]  # fmt: skip


@pytest.mark.parametrize(("inventory", "variant"), BUILDS)
def test_the_newest_build_that_runs_here(inventory: Inventory, variant: str) -> None:
    chosen = choose_build("0.32.0", inventory)
    assert chosen.variant == variant
    assert chosen.platform is (Platform.CPU if variant == "cpu" else Platform.CUDA)
    assert chosen.label == f"vLLM 0.32.0 ({variant})"


@pytest.mark.parametrize(
    ("inventory", "cause"),
    [
        (box("Tesla T4"), "NVIDIA driver 580.95.05 supports CUDA 13.0"),
        (
            box("Tesla T4", **R535),
            "NVIDIA driver 535.183.01 supports CUDA 12.2; cu130 needs driver 580.65.06 or newer",
        ),
        (
            box("mystery", **UNKNOWN),
            (
                "the NVIDIA driver does not tell which CUDA it supports;"
                " a GPU whose compute capability is unknown is taken for one that it can run on"
            ),
        ),
        (box(), ""),
    ],
)
def test_every_choice_says_why(inventory: Inventory, cause: str) -> None:
    assert choose_build("0.32.0", inventory).cause == cause


OWN = "or set engine.python in the manifest to an environment with a vLLM that you built for it"
TAKES = "it takes a GPU of compute capability {} or newer (developer.nvidia.com/cuda-gpus lists them)"
FOR_X86 = "its builds for x86_64 are for compute capability 7.5, 8.0, 8.6, 9.0, 10.0, 12.0"
FOR_ARM = "its builds for aarch64 are for compute capability 8.0, 9.0, 10.0, 11.0, 12.0"
OLDER = "a vLLM older than 0.32.0 is not offered, since it has known security holes"


@pytest.mark.parametrize(
    ("inventory", "message", "hint"),
    [
        (
            box("NVIDIA A100-SXM4-80GB", **R470),
            (
                "NVIDIA driver 470.256.02 supports CUDA 11.4, and vLLM 0.32.0 needs driver 525.60.13 or newer"
                " (CUDA 12, build cu129)"
            ),
            (
                "install driver branch 580, or at least 525.60.13; in a container the driver is its host's:"
                f" choose a host with CUDA 12.0 or newer when renting; {OLDER}"
            ),
        ),
        (
            box("NVIDIA Thor", driver="540.4.0", cuda=(12, 6), on="aarch64"),
            (
                "NVIDIA driver 540.4.0 supports CUDA 12.6, and vLLM 0.32.0 needs driver 580.65.06 or newer"
                " (CUDA 13, build cu130)"
            ),
            (
                "install driver branch 580, or at least 580.65.06; in a container the driver is its host's:"
                f" choose a host with CUDA 13.0 or newer when renting; {OLDER}"
            ),
        ),
        (
            box("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-16GB"),
            f"vLLM 0.32.0 has no kernels for GPU 0, 1 (Tesla V100-SXM2-16GB, compute capability 7.0); {FOR_X86}",
            f"{TAKES.format('7.5')}; {OWN}",
        ),
        (
            box("Tesla P100-PCIE-16GB", "NVIDIA H100 PCIe", "Tesla V100-SXM2-16GB", "Tesla T4"),
            (
                "vLLM 0.32.0 has no kernels for GPU 0 (Tesla P100-PCIE-16GB, compute capability 6.0),"
                f" GPU 2 (Tesla V100-SXM2-16GB, compute capability 7.0); {FOR_X86}"
            ),
            f"leave it out: CUDA_VISIBLE_DEVICES=1,3 selfhost up; {OWN}",
        ),
        (
            box("Orin", driver="540.4.0", cuda=(12, 6), on="aarch64"),
            f"vLLM 0.32.0 has no kernels for GPU 0 (Orin, compute capability 8.7); {FOR_ARM}",
            f"{TAKES.format('8.0')}; {OWN}",
        ),
        (
            box("Tesla T4", on="aarch64"),
            f"vLLM 0.32.0 has no kernels for GPU 0 (Tesla T4, compute capability 7.5); {FOR_ARM}",
            f"{TAKES.format('8.0')}; {OWN}",
        ),
        (
            box("NVIDIA H100 PCIe", on="ppc64le"),
            "vLLM 0.32.0 has no CUDA build for ppc64le, only for x86_64 and aarch64",
            "set engine.python in the manifest to the Python of an environment with a vLLM of your own",
        ),
    ],
)
def test_a_box_without_a_build_is_told_why_and_what_would_do(inventory: Inventory, message: str, hint: str) -> None:
    with pytest.raises(BlockedError) as caught:
        choose_build("0.32.0", inventory)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.exit_code is ExitCode.BLOCKED


def test_a_mig_device_is_left_in_by_its_uuid() -> None:
    whole, old = box("NVIDIA H100 PCIe", "Tesla V100-SXM2-16GB").gpus
    slice_ = MigDevice(index=1, parent_uuid="GPU-0", gpu_instance=3, compute_instance=0, card_memory_total_bytes=None)
    mixed = replace(box(), gpus=(replace(whole, uuid="MIG-7", mig=slice_), old))
    with pytest.raises(BlockedError) as caught:
        choose_build("0.32.0", mixed)
    assert caught.value.hint.startswith("leave it out: CUDA_VISIBLE_DEVICES=MIG-7 selfhost up")


@pytest.mark.parametrize(("version", "variant"), [("0.32.1", "cu130"), ("0.40.0", "cu130")])
def test_a_release_of_which_nothing_is_known_yet_is_taken_to_be_as_the_one_before(version: str, variant: str) -> None:
    chosen = choose_build(version, box("NVIDIA H100 PCIe"))
    assert (chosen.vllm_version, chosen.variant) == (version, Variant(variant))
