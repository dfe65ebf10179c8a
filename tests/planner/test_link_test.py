"""Which two GPUs are tested, with which settings, and for how long the answer counts."""

from dataclasses import replace

import pytest

from selfhost.hardware.inventory import Gpu, GpuLink, Host, Inventory, MigDevice, PciPath
from selfhost.planner.link_test import LinkTest, settings_to_try, worst_pair

HOST = Host(architecture="x86_64", cpu_count=1, memory_total_bytes=1, memory_available_bytes=1)


def _gpu(index: int) -> Gpu:
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name=None,
        memory_total_bytes=None,
        memory_free_bytes=None,
        compute_capability=None,
        pci_bus_id=None,
    )


def _link(first: int, second: int, path: PciPath | None = None, nvlinks: int | None = 0) -> GpuLink:
    return GpuLink(first=f"GPU-{first}", second=f"GPU-{second}", pci_path=path, nvlink_count=nvlinks, peer_access=None)


GPUS = [_gpu(index) for index in range(3)]


@pytest.mark.parametrize(
    "links, worst",
    [
        ([_link(0, 1, PciPath.SYSTEM), _link(0, 2, PciPath.ONE_SWITCH), _link(1, 2, PciPath.NUMA_NODE)], (0, 1)),
        ([_link(0, 1, PciPath.SYSTEM, 4), _link(0, 2, PciPath.SYSTEM, 4), _link(1, 2, PciPath.ONE_SWITCH)], (1, 2)),
        ([_link(0, 1, PciPath.SYSTEM), _link(1, 2, None), _link(0, 2, PciPath.SYSTEM)], (1, 2)),  # unknown: the worst
        ([], (0, 1)),
    ],
)
def test_the_worst_connected_pair_is_tested(links: list[GpuLink], worst: tuple[int, int]) -> None:
    assert worst_pair(GPUS, links) == tuple(GPUS[index] for index in worst)


def test_one_gpu_has_no_pair_and_mig_devices_cannot_reach_each_other() -> None:
    slices = [
        replace(
            gpu,
            mig=MigDevice(
                index=gpu.index,
                parent_uuid="GPU-0",
                gpu_instance=None,
                compute_instance=None,
                card_memory_total_bytes=None,
            ),
        )
        for gpu in GPUS
    ]
    assert worst_pair(GPUS[:1], []) is None
    assert worst_pair(slices, []) is None


@pytest.mark.parametrize(
    "nvlinks, tried",
    [
        ((18, 18, 18), [{}, {"NCCL_P2P_DISABLE": "1"}]),  # NVLink everywhere: its level changes nothing
        ((4, 0, 0), [{}, {"NCCL_P2P_LEVEL": "NVL"}, {"NCCL_P2P_DISABLE": "1"}]),
        ((0, 0, 0), [{}, {"NCCL_P2P_DISABLE": "1"}]),
        ((None, None, None), [{}, {"NCCL_P2P_DISABLE": "1"}]),
    ],
)
def test_nccls_own_way_is_tried_first_and_the_most_careful_last(nvlinks: tuple[int | None, ...], tried: list) -> None:
    links = [_link(0, 1, nvlinks=nvlinks[0]), _link(0, 2, nvlinks=nvlinks[1]), _link(1, 2, nvlinks=nvlinks[2])]
    assert list(settings_to_try(links)) == tried


def test_an_answer_counts_for_the_same_cards_on_the_same_driver() -> None:
    here = Inventory(host=HOST, gpus=tuple(GPUS), driver_version="580.95.05")
    test = LinkTest(
        gpu_uuids=("GPU-0", "GPU-1", "GPU-2"),
        driver_version="580.95.05",
        pair=("GPU-0", "GPU-1"),
        gib_per_second=20.0,
        tested="2026-11-22",
    )
    assert test.holds_for(here)
    assert test.holds_for(replace(here, gpus=here.gpus[:2]))  # CUDA_VISIBLE_DEVICES hides one
    assert not test.holds_for(replace(here, driver_version="575.57.08"))
    assert not test.holds_for(replace(here, gpus=(*here.gpus, _gpu(7))))
