from dataclasses import replace

import pytest

from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.planner.plan import (
    Basis,
    Deployment,
    EngineBuild,
    Figure,
    GatewayPlan,
    KvCache,
    Memory,
    Plan,
    Platform,
    Replica,
)
from selfhost.planner.reconcile import ObservedReplica, ObservedState, reconcile
from selfhost.planner.routing import HashedKey, ReplicaState
from selfhost.planner.text import render_steps

ONE = Figure(bytes=1, basis=Basis.DERIVED, note="")
ENGINE = EngineBuild(vllm_version="0.32.0", platform=Platform.CUDA)
CHECKPOINT = CheckpointRef(kind=CheckpointKind.HUB, location="org/model", revision="a" * 40, total_bytes=100)


def replica(name: str, *gpus: int) -> Replica:
    return Replica(
        name=name,
        gpu_uuids=tuple(f"GPU-{gpu}" for gpu in gpus),
        gpu_labels=tuple(map(str, gpus)),
        gpu_memory_utilization=0.92,
        memory=Memory(total=ONE, budget=ONE, weights=ONE, reserve=ONE, kv_cache=ONE, kv_cache_needed=ONE),
        kv_cache=KvCache(block_size=16, bytes_per_block=1, num_blocks=1, tokens=16, max_concurrency=1.0),
    )


def deployment(name: str, *replicas: Replica, **changes: object) -> Deployment:
    return replace(
        Deployment(
            name=name,
            aliases=(),
            checkpoint=CHECKPOINT,
            max_model_len=1024,
            concurrency=1,
            tensor_parallel_size=1,
            gpu_memory_utilization=0.92,
            engine_args={},
            replicas=replicas,
            causes=(),
        ),
        **changes,
    )


def plan(*deployments: Deployment, port: int = 8000, keys: tuple[HashedKey, ...] = ()) -> Plan:
    gateway = GatewayPlan(host="127.0.0.1", port=port, keys=keys)
    return Plan(name="box", machine="a box", engine=ENGINE, gateway=gateway, deployments=deployments)


def running(wanted: Plan, **states: ReplicaState) -> ObservedState:
    """Everything of `wanted` runs; `states` are given by the model's name."""
    return ObservedState(
        engine_installed=True,
        missing_weights={},
        replicas=tuple(
            ObservedReplica(
                engine=wanted.engine,
                deployment=each,
                replica=one,
                state=states.get(each.name, ReplicaState.READY),
            )
            for each in wanted.deployments
            for one in each.replicas
        ),
        gateway=wanted.gateway,
        aliases={each.name: each.aliases for each in wanted.deployments},
    )


CHAT = deployment("chat", replica("chat/0", 0), replica("chat/1", 1))
CODE = deployment("code", replica("code/0", 0))


def steps(wanted: Plan, observed: ObservedState) -> list[str]:
    return [" ".join(line.split()) for line in render_steps(reconcile(wanted, observed)).splitlines()]


def test_from_nothing_everything_is_built_fetched_and_started() -> None:
    observed = ObservedState(missing_weights={CHECKPOINT.label: 100})
    assert steps(plan(CHAT, CODE), observed) == [
        "1. install vLLM 0.32.0 (cuda) not installed",
        "2. fetch org/model@aaaaaaa 100 B missing",
        "3. start chat/0 not running after 1, 2",
        "4. start chat/1 not running after 1, 2",
        "5. start code/0 not running after 1, 2, 3",  # it shares GPU 0 with chat/0
        "6. serve gateway 127.0.0.1:8000 not running",
    ]


def test_what_runs_as_planned_is_left_alone() -> None:
    assert steps(plan(CHAT, CODE), running(plan(CHAT, CODE))) == ["nothing to do: everything is as planned"]


def test_what_is_no_longer_wanted_is_stopped() -> None:
    assert steps(plan(CHAT), running(plan(CHAT, CODE))) == ["1. stop code/0 no longer in the manifest"]


def test_an_empty_plan_stops_everything_but_the_gateway() -> None:
    assert steps(plan(), running(plan(CODE))) == ["1. stop code/0 no longer in the manifest"]


@pytest.mark.parametrize(
    "changes, cause",
    [
        ({"max_model_len": 2048}, "max_model_len 1,024 → 2,048"),
        ({"concurrency": 4}, "concurrency 1 → 4"),
        ({"gpu_memory_utilization": 0.5}, "gpu_memory_utilization 0.92 → 0.5"),
        ({"engine_args": {"seed": 1}}, "engine_args {} → {'seed': 1}"),
        ({"checkpoint": replace(CHECKPOINT, revision="b" * 40)}, "checkpoint org/model@aaaaaaa → org/model@bbbbbbb"),
        ({"max_model_len": 2048, "concurrency": 4}, "max_model_len 1,024 → 2,048, concurrency 1 → 4"),
        ({"replicas": (replica("code/0", 1),)}, "GPUs 0 → 1"),
        # a MIG device that was made anew stands in the place of the old one
        ({"replicas": (replace(replica("code/0", 0), gpu_uuids=("MIG-2",)),)}, "GPUs GPU-0 → MIG-2"),
    ],
)
def test_what_changed_is_replaced_and_the_cause_says_what(changes: dict, cause: str) -> None:
    assert steps(plan(replace(CODE, **changes)), running(plan(CODE))) == [
        f"1. stop code/0 {cause}",
        f"2. start code/0 {cause} after 1",
    ]


def test_another_engine_version_replaces_every_replica() -> None:
    newer = replace(plan(CODE), engine=replace(ENGINE, vllm_version="0.33.0"))
    observed = replace(running(plan(CODE)), engine_installed=False)
    assert steps(newer, observed) == [
        "1. install vLLM 0.33.0 (cuda) not installed",
        "2. stop code/0 vLLM 0.32.0 (cuda) → 0.33.0 (cuda) after 1",
        "3. start code/0 vLLM 0.32.0 (cuda) → 0.33.0 (cuda) after 1, 2",
    ]


def test_measured_memory_is_no_reason_to_restart() -> None:
    grown = replace(CODE.replicas[0], gpu_memory_utilization=0.91)
    assert reconcile(plan(replace(CODE, replicas=(grown,))), running(plan(CODE))) == ()


@pytest.mark.parametrize("state", [ReplicaState.DRAINING, ReplicaState.FAILED, ReplicaState.HOST_FAULT])
def test_what_does_not_come_back_by_itself_is_started_again(state: ReplicaState) -> None:
    assert steps(plan(CODE), running(plan(CODE), code=state)) == [
        f"1. stop code/0 it is {state}",
        f"2. start code/0 it is {state} after 1",
    ]


@pytest.mark.parametrize("state", [ReplicaState.STARTING, ReplicaState.BACKOFF])
def test_what_is_on_its_way_is_left_to_its_supervisor(state: ReplicaState) -> None:
    assert reconcile(plan(CODE), running(plan(CODE), code=state)) == ()


def test_the_newcomer_waits_for_what_leaves_its_gpu() -> None:
    moved = deployment("next", replica("next/0", 1))
    assert steps(plan(moved), running(plan(CHAT))) == [
        "1. stop chat/0 no longer in the manifest",
        "2. stop chat/1 no longer in the manifest",
        "3. start next/0 not running after 2",
    ]


def test_on_a_cpu_box_a_newcomer_waits_for_whatever_leaves() -> None:
    cpu = replace(ENGINE, platform=Platform.CPU)
    was = replace(plan(deployment("old", replica("old/0"))), engine=cpu)
    wanted = replace(plan(deployment("new", replica("new/0"))), engine=cpu)
    assert steps(wanted, running(was)) == [
        "1. stop old/0 no longer in the manifest",
        "2. start new/0 not running after 1",
    ]


@pytest.mark.parametrize(
    "wanted, cause",
    [
        (plan(CODE, port=9000), "gateway 127.0.0.1:9000 gateway.listen 127.0.0.1:8000 → 127.0.0.1:9000"),
        (
            plan(CODE, keys=(HashedKey(name="ci", sha256="0" * 64),)),
            "gateway 127.0.0.1:8000 gateway.keys changed",
        ),
        (plan(replace(CODE, aliases=("gpt",))), "gateway 127.0.0.1:8000 aliases of code changed"),
    ],
)
def test_what_only_the_gateway_must_know_restarts_no_engine(wanted: Plan, cause: str) -> None:
    assert steps(wanted, running(plan(CODE))) == [f"1. serve {cause}"]


def test_kernels_that_are_compiled_at_start_need_a_compiler() -> None:
    (install, *_) = reconcile(plan(CODE, deployment("eager", engine_args={"enforce-eager": True})), ObservedState())
    assert install.action.needs_compiler
    eager = deployment("eager", replica("eager/0", 0), engine_args={"enforce-eager": True})
    (install, *_) = reconcile(plan(eager), ObservedState())
    assert not install.action.needs_compiler
