"""Whole command lines and whole environments of engines, as text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.engines import arguments
from selfhost.engines.vllm import Launch, phase_of, serve_command
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Basis, Deployment, Figure, KvCache, Memory, Platform, Replica
from selfhost.planner.routing import ReplicaState

DATA = Path(__file__).parents[1] / "data"
GOLDEN = Path(__file__).parents[1] / "golden/commands"
ARGUMENTS = arguments.parse(json.loads((DATA / "vllm-0.32.0-arguments.json").read_text()))

FIGURE = Figure(bytes=1_114_112, basis=Basis.DERIVED, note="")
CPU = Replica(
    name="chat/0",
    gpu_uuids=(),
    gpu_labels=(),
    gpu_memory_utilization=None,
    memory=Memory(total=FIGURE, budget=FIGURE, weights=FIGURE, reserve=FIGURE, kv_cache=FIGURE, kv_cache_needed=FIGURE),
    kv_cache=KvCache(block_size=128, bytes_per_block=1, num_blocks=1, tokens=128, max_concurrency=1.0),
)
GPU = replace(CPU, gpu_uuids=("GPU-1111", "GPU-2222"), gpu_labels=("0", "1"), gpu_memory_utilization=0.92)
DEPLOYMENT = Deployment(
    name="chat",
    aliases=("default",),
    checkpoint=CheckpointRef(kind=CheckpointKind.HUB, location="org/model", revision="a" * 40, total_bytes=1),
    max_model_len=2048,
    concurrency=4,
    tensor_parallel_size=1,
    gpu_memory_utilization=0.92,
    engine_args={},
    replicas=(CPU,),
    causes=(),
)
LAUNCH = Launch(
    executable="/home/ann/engines/vllm-0.32.0-cpu/venv/bin/vllm",
    model_path="/home/ann/hub/models--org--model/snapshots/aaaa",
    socket="/run/selfhost/box/chat-0/engine.sock",
    temp_dir="/run/selfhost/box/chat-0/t",
    cache_dir="/home/ann/cache",
    api_key="secret",
    drain_seconds=30,
)
USER = {"HOME": "/home/ann", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
CASES = {
    "cpu": (DEPLOYMENT, CPU, Platform.CPU),
    "cpu-eager": (replace(DEPLOYMENT, engine_args={"enforce-eager": True}), CPU, Platform.CPU),
    "gpu": (DEPLOYMENT, replace(GPU, gpu_uuids=("GPU-1111",)), Platform.CUDA),
    "gpu-mig": (
        DEPLOYMENT,
        replace(GPU, gpu_uuids=("MIG-aaaa0000-1111-2222-3333-444444444444",), gpu_labels=("0:0",)),
        Platform.CUDA,
    ),
    "gpu-split": (replace(DEPLOYMENT, tensor_parallel_size=2), GPU, Platform.CUDA),
    "gpu-shared": (DEPLOYMENT, replace(GPU, gpu_uuids=("GPU-1111",), gpu_memory_utilization=0.4105), Platform.CUDA),
    "arguments": (
        replace(
            DEPLOYMENT,
            engine_args={
                "max-num-seqs": 64,
                "enable-prefix-caching": False,
                "enforce-eager": True,
                "generation-config": "vllm",
                "compilation-config.mode": 3,
                "cudagraph-capture-sizes": (1, 2, 4),
            },
        ),
        GPU,
        Platform.CUDA,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_whole_command_lines(case: str, golden) -> None:
    deployment, replica, platform = CASES[case]
    command = serve_command(deployment, replica, platform, LAUNCH, arguments=ARGUMENTS, inherited=USER)
    environment = [f"{name}={value}" for name, value in sorted(command.env.items())]
    golden(GOLDEN / f"{case}.txt", "\n".join([*environment, "", *command.argv, ""]))
    assert arguments.validate_argv(ARGUMENTS, command.argv[2:]) == ()


def test_the_key_is_in_the_environment_and_nowhere_else() -> None:
    command = serve_command(DEPLOYMENT, CPU, Platform.CPU, LAUNCH, arguments=ARGUMENTS, inherited=USER)
    assert command.env["VLLM_API_KEY"] == "secret"
    assert "secret" not in " ".join(command.argv)
    assert "secret" not in repr(command)


@pytest.mark.parametrize(
    "variable",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "VLLM_SERVER_DEV_MODE",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",
        "PYTHONPATH",
        "PYTHONOPTIMIZE",
        "CUDA_VISIBLE_DEVICES",
    ],
)
def test_what_the_caller_has_set_does_not_reach_the_engine(variable: str) -> None:
    inherited = {**USER, variable: "canary"}
    command = serve_command(DEPLOYMENT, GPU, Platform.CUDA, LAUNCH, arguments=ARGUMENTS, inherited=inherited)
    assert "canary" not in command.env.values()


def test_arguments_that_the_engine_does_not_know_are_refused() -> None:
    deployment = replace(DEPLOYMENT, engine_args={"max-num-sqs": 64})
    with pytest.raises(SelfhostError, match="did you mean max_num_seqs"):
        serve_command(deployment, CPU, Platform.CPU, LAUNCH, arguments=ARGUMENTS, inherited=USER)


def test_the_log_of_a_real_start_goes_through_the_phases_in_order() -> None:
    lines = (DATA / "engine_logs/healthy-start.log").read_text().splitlines()
    phases = [phase for line in lines if (phase := phase_of(line))]
    assert list(dict.fromkeys(phases)) == [ReplicaState.LOADING, ReplicaState.WARMING]
