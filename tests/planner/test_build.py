"""Whole plans, as text. `pytest tests/planner/test_build.py --update-golden` writes them anew: read the difference."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.errors import BlockedError
from selfhost.hardware.inventory import Accelerator, Gpu, Host, Inventory, MigDevice
from selfhost.manifest.schema import Manifest
from selfhost.planner.build import Found, PlanError, build_plan
from selfhost.planner.reconcile import ObservedState, reconcile
from selfhost.planner.source import choose_source
from selfhost.planner.text import render_plan, render_steps
from selfhost.units import GIB, MIB

GOLDEN = Path(__file__).parents[1] / "golden/plans"
HOST = Host(architecture="x86_64", cpu_count=16, memory_total_bytes=64 * GIB, memory_available_bytes=60 * GIB)
RESERVED = 600 * MIB  # what the driver keeps of an idle GPU


def gpus(count: int, name: str, total_bytes: int, cc: tuple[int, int], *, used_bytes: int = 0) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(
            index=index,
            uuid=f"GPU-{index}",
            name=name,
            memory_total_bytes=total_bytes,
            memory_free_bytes=total_bytes - RESERVED - used_bytes,
            compute_capability=cc,
            pci_bus_id=f"0000:{index:02x}:00.0",
        )
        for index in range(count)
    )


H100 = ("NVIDIA H100 80GB HBM3", 85_520_809_984, (9, 0))
RTX_4090 = ("NVIDIA GeForce RTX 4090", 25_757_220_864, (8, 9))
L4 = ("NVIDIA L4", 24_152_899_584, (8, 9))
HALF, EIGHTH = ("3g.40gb", 42_144_366_592), ("1g.10gb", 10_200_547_328)
GB10 = replace(gpus(1, "NVIDIA GB10", 120 * GIB, (12, 1))[0], memory_free_bytes=100 * GIB, unified_memory=True)


def mig_devices(card: Gpu, *sizes: tuple[str, int]) -> tuple[Gpu, ...]:
    """A card that is split into MIG devices of these profiles and bytes."""
    return tuple(
        replace(
            card,
            uuid=f"MIG-{card.index}-{index}",
            name=f"{card.name} MIG {profile}",
            memory_total_bytes=size,
            memory_free_bytes=size,
            mig=MigDevice(
                index=index,
                parent_uuid=card.uuid,
                card_memory_total_bytes=card.memory_total_bytes,
                gpu_instance=index,
                compute_instance=0,
            ),
        )
        for index, (profile, size) in enumerate(sizes)
    )


def box(*found: Gpu) -> Inventory:
    return Inventory(host=HOST, gpus=found, driver_version="580.95.05", cuda_version=(13, 0))


BOXES = {
    "cpu": Inventory(host=HOST),
    "l4": box(*gpus(1, *L4)),
    "2x4090": box(*gpus(2, *RTX_4090)),
    "2xh100": box(*gpus(2, *H100)),
    "8xh100": box(*gpus(8, *H100)),
    "h100-busy": box(*gpus(1, *H100, used_bytes=20 * GIB)),
    "mig": box(*mig_devices(gpus(1, *H100)[0], HALF, HALF), *mig_devices(gpus(2, *H100)[1], HALF, EIGHTH)),
    "mig-and-whole": box(*mig_devices(gpus(1, *H100)[0], EIGHTH), gpus(2, *H100)[1]),
    "spark": box(GB10),
    "mixed": box(*gpus(1, *RTX_4090), *(gpu for gpu in gpus(3, *H100) if gpu.index)),
}


def manifest(*models: dict, **fields: object) -> Manifest:
    return Manifest.model_validate({"version": 1, "name": "box", "models": models, **fields})


def plan_for(asked: Manifest, inventory: Inventory, checkpoint, sources: dict[str, str]):
    found = {
        model.name: Found(checkpoint=checkpoint(sources[model.name]), cause=f"source: {model.source}")
        for model in asked.models
    }
    return build_plan(asked, inventory, found)


CASES = {
    # the same model on ever larger boxes
    "qwen3-8b@cpu": ("cpu", [{"name": "chat", "max_model_len": 8192, "concurrency": 4}], ["Qwen/Qwen3-8B"]),
    "qwen3-8b@l4": ("l4", [{"name": "chat"}], ["Qwen/Qwen3-8B"]),
    "qwen3-8b@2x4090": ("2x4090", [{"name": "chat"}], ["Qwen/Qwen3-8B"]),
    "qwen3-8b@8xh100": (
        "8xh100",
        [{"name": "chat", "concurrency": 4, "replicas": 8, "aliases": ("default",)}],
        ["Qwen/Qwen3-8B"],
    ),
    # split over GPUs because one is too small
    "qwen3-32b@2x4090": ("2x4090", [{"name": "chat", "max_model_len": 4096}], None),
    "qwen3-32b@8xh100": ("8xh100", [{"name": "chat", "max_model_len": 32768, "concurrency": 16}], ["Qwen/Qwen3-32B"]),
    "llama-70b@8xh100": ("8xh100", [{"name": "big", "concurrency": 2}], ["meta-llama/Meta-Llama-3.1-70B"]),
    # several models on one GPU share it by bytes
    "two-on-one@2xh100": (
        "2xh100",
        [
            {"name": "chat", "max_model_len": 16384, "concurrency": 4},
            {"name": "small", "max_model_len": 8192, "concurrency": 2},
            {"name": "third", "max_model_len": 8192},
        ],
        ["Qwen/Qwen3-8B", "meta-llama/Meta-Llama-3.1-8B", "Qwen/Qwen3-8B"],
    ),
    # each engine has one MIG device of its own
    "qwen3-8b@mig": ("mig", [{"name": "chat", "max_model_len": 8192, "replicas": 3}], ["Qwen/Qwen3-8B"]),
    "qwen3-32b@mig-and-whole": ("mig-and-whole", [{"name": "chat", "max_model_len": 4096}], ["Qwen/Qwen3-32B"]),
    # two engines share the host's memory
    "two-on-one@spark": (
        "spark",
        [{"name": "chat", "max_model_len": 16384, "concurrency": 4, "replicas": 2}],
        ["Qwen/Qwen3-8B"],
    ),
    "qwen3-8b@h100-busy": ("h100-busy", [{"name": "chat", "max_model_len": 32768}], ["Qwen/Qwen3-8B"]),
    "moe@mixed": ("mixed", [{"name": "moe", "max_model_len": 32768, "concurrency": 8}], ["Qwen/Qwen3-30B-A3B"]),
    "arguments@l4": (
        "l4",
        [{"name": "chat", "max_model_len": 8192, "engine_args": {"max-num-seqs": 32, "enforce-eager": True}}],
        ["Qwen/Qwen3-8B"],
    ),
}


@pytest.mark.parametrize("case", [name for name, (_, _, repos) in CASES.items() if repos])
def test_whole_plans(case: str, checkpoint, golden) -> None:
    box_name, models, repos = CASES[case]
    sources = {model["name"]: repo for model, repo in zip(models, repos, strict=True)}
    plan = plan_for(manifest(*models), BOXES[box_name], checkpoint, sources)
    text = render_plan(plan) + "\n" + render_steps(reconcile(plan, ObservedState()))
    golden(GOLDEN / f"{case}.txt", text)


REFUSALS = {
    "split over MIG devices": (
        "mig",
        {"tensor_parallel_size": 2},
        "Qwen/Qwen3-8B",
        "tensor_parallel_size 2 is not possible on MIG devices: an engine can use only one",
        "leave it out, and write replicas to use several; or make the GPU whole: `sudo nvidia-smi -mig 0`",
    ),
    "split over a MIG device and a GPU": (
        "mig-and-whole",
        {"tensor_parallel_size": 2},
        "Qwen/Qwen3-8B",
        "tensor_parallel_size 2 is not possible with 32 attention heads, 8 KV heads and 1 GPU(s) of one kind",
        "possible here: 1",
    ),
    "more than a MIG device": (
        "mig",
        {"max_model_len": 32768, "concurrency": 16},
        "Qwen/Qwen3-8B",
        (
            "needs 94.0 GiB on one MIG device (15.3 GiB weights, 6.7 GiB reserve, 72.0 GiB KV cache for 16 × 32,768 "
            "tokens); 36.1 GiB is left"
        ),
        "would fit: concurrency: 3, or max_model_len: 6416",
    ),
    "too long for the model": (
        "l4",
        {"max_model_len": 999999},
        "Qwen/Qwen3-8B",
        "max_model_len 999,999 is more than the model's own 40,960 tokens",
        "write max_model_len: 40960, or leave it out",
    ),
    "too much at once": (
        "l4",
        {"max_model_len": 32768, "concurrency": 16},
        "Qwen/Qwen3-8B",
        (
            "needs 89.5 GiB on one GPU (15.3 GiB weights, 2.2 GiB reserve, 72.0 GiB KV cache for 16 × 32,768 tokens); "
            "20.7 GiB is left"
        ),
        "would fit: max_model_len: 1440, or 8 empty GPUs like this (NVIDIA L4)",
    ),
    "the weights alone": (
        "2x4090",
        {"max_model_len": 4096},
        "Qwen/Qwen3-32B",
        (
            "needs 33.8 GiB on each of 2 GPUs (30.5 GiB weights, 2.8 GiB reserve, 514 MiB KV cache for "
            "1 × 4,096 tokens); 22.1 GiB is left"
        ),
        "would fit: 4 empty GPUs like this (NVIDIA GeForce RTX 4090)",
    ),
    "an impossible split": (
        "8xh100",
        {"tensor_parallel_size": 3},
        "Qwen/Qwen3-8B",
        "tensor_parallel_size 3 is not possible with 32 attention heads, 8 KV heads and 8 GPU(s) of one kind",
        "possible here: 1, 2, 4, 8",
    ),
    "an argument that changes the sizing": (
        "l4",
        {"engine_args": {"kv-cache-dtype": "fp8"}},
        "Qwen/Qwen3-8B",
        "engine_args.kv-cache-dtype changes the size of the KV cache, which selfhost cannot size yet",
        "leave it out",
    ),
    "more replicas than fit": (
        "l4",
        {"max_model_len": 8192, "replicas": 2},
        "Qwen/Qwen3-8B",
        (
            "needs 18.6 GiB on one GPU (15.3 GiB weights, 2.2 GiB reserve, 1.1 GiB KV cache for 1 × 8,192 tokens); "
            "there is room for 1 of 2 replicas"
        ),
        "would fit: replicas: 1, or 2 empty GPUs like this (NVIDIA L4)",
    ),
    "the host of a CPU box": (
        "cpu",
        {"max_model_len": 131072, "concurrency": 4},
        "meta-llama/Meta-Llama-3.1-8B",
        (
            "needs 81.7 GiB of the host's memory (15.0 GiB weights, 2.7 GiB reserve, 64.0 GiB KV cache for "
            "4 × 131,072 tokens); 58.9 GiB is left"
        ),
        "would fit: concurrency: 2, or max_model_len: 84224",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_refused_with_the_number_that_decided(case: str, checkpoint) -> None:
    box_name, fields, repo, message, hint = REFUSALS[case]
    with pytest.raises(PlanError) as caught:
        plan_for(manifest({"name": "chat", **fields}), BOXES[box_name], checkpoint, {"chat": repo})
    (refusal,) = caught.value.refusals
    assert refusal.message.startswith("chat: ")
    assert (refusal.message.endswith(message), refusal.hint) == (True, hint), refusal.message
    assert caught.value.exit_code == 4


def test_every_model_that_does_not_fit_is_named_at_once(checkpoint) -> None:
    asked = manifest({"name": "a", "max_model_len": 50000}, {"name": "b", "max_model_len": 60000})
    with pytest.raises(PlanError) as caught:
        plan_for(asked, BOXES["l4"], checkpoint, {"a": "Qwen/Qwen3-8B", "b": "Qwen/Qwen3-8B"})
    assert [refusal.message.split(":")[0] for refusal in caught.value.refusals] == ["a", "b"]


@pytest.mark.parametrize("case", [case for case, row in REFUSALS.items() if row[4].startswith("would fit")])
def test_what_would_fit_does_fit_and_a_little_more_does_not(case: str, checkpoint) -> None:
    """The hint of a refusal is taken at its word."""
    box_name, fields, repo, _, hint = REFUSALS[case]
    for option, value in re.findall(r"(concurrency|max_model_len|replicas): (\d+)", hint):
        fitting = manifest({"name": "chat", **fields, option: int(value)})
        plan_for(fitting, BOXES[box_name], checkpoint, {"chat": repo})
        larger = manifest({"name": "chat", **fields, option: int(value) + 129})
        with pytest.raises(PlanError):
            plan_for(larger, BOXES[box_name], checkpoint, {"chat": repo})


@pytest.mark.parametrize(
    "inventory, source",
    [
        (Inventory(host=HOST), "demo-a"),
        (BOXES["l4"], "qwen3-8b"),
    ],
)
def test_auto_takes_the_gpu_model_where_there_is_a_gpu(inventory: Inventory, source: str) -> None:
    assert choose_source("auto", inventory).source == source


@pytest.mark.parametrize("asked", ["auto", "Qwen/Qwen3-8B"])
def test_a_gpu_that_cannot_be_used_is_never_replaced_by_a_toy(asked: str) -> None:
    broken = Inventory(
        host=HOST,
        accelerators=(Accelerator(vendor="NVIDIA", pci_address="0000:1b:00.0"),),
        problem="the NVIDIA driver is not loaded",
        hint="load it",
    )
    with pytest.raises(BlockedError, match="no GPU can be used: the NVIDIA driver is not loaded") as caught:
        choose_source(asked, broken)
    assert (caught.value.exit_code, caught.value.hint) == (4, "load it")
    assert choose_source("demo-a", broken).source == "demo-a"  # asked for by name, it may run on the CPU


def test_no_gpu_is_promised_more_than_it_has(checkpoint) -> None:
    for name, (box_name, models, repos) in CASES.items():
        if not repos or box_name == "cpu":
            continue
        sources = {model["name"]: repo for model, repo in zip(models, repos, strict=True)}
        plan = plan_for(manifest(*models), BOXES[box_name], checkpoint, sources)
        promised: dict[str, float] = {}
        for deployment in plan.deployments:
            for replica in deployment.replicas:
                for uuid in replica.gpu_uuids:
                    promised[uuid] = promised.get(uuid, 0) + replica.gpu_memory_utilization
        assert max(promised.values()) <= 0.92 + 1e-9, name
