"""Machines in a few words."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.hardware.known_gpus import AMBIGUOUS, BY_NAME, KNOWN_GPUS, normalized
from selfhost.hardware.what_if import SpecError, parse
from selfhost.units import GIB

SCENARIOS = Path(__file__).parents[1] / "fakes/nvml/scenarios"

# spec: (NVML's names, the memory of the host in GiB or None)
MACHINES = {
    "8xH100": (["NVIDIA H100 80GB HBM3"] * 8, None),
    "8 x h100-80gb": (["NVIDIA H100 80GB HBM3"] * 8, None),
    "NVIDIA H100 80GB HBM3": (["NVIDIA H100 80GB HBM3"], None),
    "h100-pcie": (["NVIDIA H100 PCIe"], None),
    "2xRTX4090,64GiB": (["NVIDIA GeForce RTX 4090"] * 2, 64),
    "2x4090, 64 gib": (["NVIDIA GeForce RTX 4090"] * 2, 64),
    "GeForce RTX 5090": (["NVIDIA GeForce RTX 5090"], None),
    "rtx_3090": (["NVIDIA GeForce RTX 3090"], None),
    "4xA100-80GB,1TiB": (["NVIDIA A100-SXM4-80GB"] * 4, 1024),
    "a100-40gb": (["NVIDIA A100-SXM4-40GB"], None),
    "RTX 6000 Ada": (["NVIDIA RTX 6000 Ada Generation"], None),
    "rtxpro6000": (["NVIDIA RTX PRO 6000 Blackwell Server Edition"], None),
    "2xh100+1xL4": (["NVIDIA H100 80GB HBM3"] * 2 + ["NVIDIA L4"], None),
    "dgx-spark": (["NVIDIA GB10"], None),
    "gb10,64GiB": (["NVIDIA GB10"], 64),
    "CPU,32GiB": ([], 32),
}

REFUSED = {
    "8xH1000": "no GPU 'H1000' is known (near it: H100, H200",
    "mi300x": "no GPU 'mi300x' is known (",
    "a100": "'a100' comes with different memory: write A100-40GB or A100-80GB",
    "V100": "write V100-16GB or V100-32GB",
    "cpu": "a machine without a GPU is planned by its memory: write cpu,32GiB",
    "0xL4": "the number of GPUs is from 1 to 64",
    "65xL4": "the number of GPUs is from 1 to 64",
    "40xL4+40xT4": "is more than 64 GPUs",
    "2xGB10": "a GPU that takes the host's memory is alone in its machine",
    "L4,much": "'much' is no amount of memory",
    "L4,0GiB": "the memory of a machine is from 1 GiB",
    "L4,64GiB,16": "says more than GPUs and memory",
    "": "a GPU is missing",
    "L4+": "a GPU is missing",
    "9" * 5000 + "xL4": "no GPU",
}


@pytest.mark.parametrize(("spec", "expected"), MACHINES.items())
def test_machines(spec: str, expected) -> None:
    names, memory_gib = expected
    inventory = parse(spec)
    assert inventory.what_if
    assert [gpu.name for gpu in inventory.gpus] == names
    assert [gpu.index for gpu in inventory.gpus] == list(range(len(names)))
    assert len(inventory.links) == len(names) * (len(names) - 1) // 2
    if memory_gib:
        assert inventory.host.memory_total_bytes == memory_gib * GIB
    for gpu in inventory.gpus:
        if gpu.unified_memory:
            assert gpu.memory_total_bytes == inventory.host.memory_total_bytes


@pytest.mark.parametrize(("spec", "words"), REFUSED.items())
def test_refusals(spec: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        parse(spec)


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{0,3}x?[A-Za-z0-9]{1,8}(\+[A-Z0-9]{1,4})?(,[0-9.]{1,5}GiB)?"))
def test_whatever_is_written_is_a_machine_or_a_sentence(spec: str) -> None:
    with suppress(SpecError):
        inventory = parse(spec)
        assert inventory.host.memory_total_bytes >= GIB


def test_nvlink_joins_what_nvswitches_join_and_nothing_else() -> None:
    links = {(link.first, link.second): link.nvlink_count for link in parse("2xH100+2xL4+2xRTX3090").links}
    assert links["what-if-0", "what-if-1"] == 18
    assert links["what-if-2", "what-if-3"] == 0
    assert links["what-if-1", "what-if-2"] == 0
    assert links["what-if-4", "what-if-5"] is None  # a bridge is bought apart


def test_names_are_told_apart() -> None:
    spellings = [name for gpu in KNOWN_GPUS for name in {normalized(n) for n in (gpu.spelling, gpu.name, *gpu.aliases)}]
    assert len(spellings) == len(set(spellings))
    for general, precise in AMBIGUOUS.items():
        assert general not in BY_NAME
        assert len({BY_NAME[normalized(name)].memory_bytes for name in precise}) == len(precise)


def test_the_table_says_what_the_scripted_nvml_says() -> None:
    known = {gpu.name: gpu for gpu in KNOWN_GPUS if not gpu.unified}
    compared = set()
    for path in SCENARIOS.glob("*.txt"):
        for section in path.read_text().split("[gpu]")[1:]:
            facts = dict(line.split("=", 1) for line in section.split("[mig]")[0].splitlines() if "=" in line)
            if gpu := known.get(facts["name"]):
                compared.add(gpu.name)
                capability = ".".join(map(str, gpu.compute_capability))
                assert (str(gpu.memory_bytes), capability) == (
                    facts["memory_total_bytes"],
                    facts["compute_capability"],
                )
    assert len(compared) >= 6
