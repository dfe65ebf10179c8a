"""Models that share a GPU: who must start again so that another can start."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from selfhost.hardware.inventory import Gpu, Host, Inventory
from selfhost.manifest.schema import Manifest
from selfhost.planner.build import Found, build_plan
from selfhost.planner.plan import Basis, Figure, KvCache, Memory, Plan, Replica
from selfhost.planner.reclaim import without_ours
from selfhost.planner.reconcile import ObservedReplica, ObservedState, reconcile
from selfhost.planner.routing import ReplicaState
from selfhost.planner.sharing import MEASURED_DRIFT, giving_way
from selfhost.planner.text import render_steps
from selfhost.units import GIB

HOST = Host(architecture="x86_64", cpu_count=16, memory_total_bytes=256 * GIB, memory_available_bytes=240 * GIB)
H200 = Gpu(
    index=0,
    uuid="GPU-0",
    name="NVIDIA H200",
    memory_total_bytes=150_754_820_096,
    memory_free_bytes=150_754_820_096 - GIB,
    compute_capability=(9, 0),
    pci_bus_id="0000:00:00.0",
)
GPU_BOX = Inventory(host=HOST, gpus=(H200,), driver_version="580.95.05", cuda_version=(13, 0))
CPU_BOX = Inventory(host=HOST)

CHAT = {"name": "chat", "max_model_len": 16384, "concurrency": 4}
THIRD = {"name": "third", "max_model_len": 8192}


def plan_of(checkpoint, *models: dict, box: Inventory = GPU_BOX) -> Plan:
    asked = Manifest.model_validate({"version": 1, "name": "box", "models": models})
    found = {model.name: Found(checkpoint=checkpoint("Qwen/Qwen3-8B"), cause="asked for") for model in asked.models}
    return build_plan(asked, box, found)


def running(plan: Plan, **states: ReplicaState) -> ObservedState:
    return ObservedState(
        engine_installed=True,
        missing_weights={},
        replicas=tuple(
            ObservedReplica(
                engine=plan.engine, deployment=each, replica=one, state=states.get(each.name, ReplicaState.READY)
            )
            for each in plan.deployments
            for one in each.replicas
        ),
        gateway=plan.gateway,
        aliases={each.name: each.aliases for each in plan.deployments},
    )


def steps(wanted: Plan, observed: ObservedState) -> list[str]:
    observed = replace(observed, aliases={each.name: each.aliases for each in wanted.deployments})
    return [" ".join(line.split()) for line in render_steps(reconcile(wanted, observed)).splitlines()]


def test_who_holds_the_whole_gpu_starts_again_before_the_newcomer(checkpoint) -> None:
    alone = plan_of(checkpoint, CHAT)
    assert steps(plan_of(checkpoint, CHAT, THIRD), running(alone)) == [
        "1. stop chat/0 gives up memory on GPU 0 for third/0",
        "2. start chat/0 gives up memory on GPU 0 for third/0 after 1",
        "3. start third/0 not running after 1, 2",
    ]


def test_who_gives_way_does_not_wait_for_the_weights_of_the_newcomer(checkpoint) -> None:
    alone = plan_of(checkpoint, CHAT)
    wanted = plan_of(checkpoint, THIRD, CHAT)
    elsewhere = replace(wanted.deployments[0].checkpoint, location="org/other")
    wanted = replace(
        wanted, deployments=(replace(wanted.deployments[0], checkpoint=elsewhere), *wanted.deployments[1:])
    )
    observed = replace(running(alone), missing_weights={elsewhere.label: GIB})
    assert steps(wanted, observed) == [
        "1. fetch org/other@b968826 1 GiB missing",
        "2. stop chat/0 gives up memory on GPU 0 for third/0",
        "3. start chat/0 gives up memory on GPU 0 for third/0 after 2",
        "4. start third/0 not running after 1, 2, 3",
    ]


def test_a_newcomer_that_failed_for_lack_of_memory_gets_it_the_next_time(checkpoint) -> None:
    alone, both = plan_of(checkpoint, CHAT), plan_of(checkpoint, CHAT, THIRD)
    (chat,), (_, third) = running(alone).replicas, running(both, third=ReplicaState.FAILED).replicas
    assert steps(both, replace(running(both), replicas=(chat, third))) == [
        "1. stop third/0 it is failed",
        "2. stop chat/0 gives up memory on GPU 0 for third/0",
        "3. start chat/0 gives up memory on GPU 0 for third/0 after 1, 2",
        "4. start third/0 it is failed after 1, 2, 3",
    ]


def test_nobody_starts_again_to_hold_more(checkpoint) -> None:
    both = plan_of(checkpoint, CHAT, THIRD)
    assert steps(plan_of(checkpoint, CHAT), running(both)) == ["1. stop third/0 no longer in the manifest"]


def test_on_a_cpu_box_everybody_has_what_its_requests_need(checkpoint) -> None:
    alone = plan_of(checkpoint, CHAT, box=CPU_BOX)
    observed = running(alone)
    wanted = plan_of(checkpoint, CHAT, THIRD, box=without_ours(CPU_BOX, observed.replicas))
    assert steps(wanted, observed) == ["1. start third/0 not running"]


def replica(name: str, share: float, *gpus: int) -> Replica:
    one = Figure(bytes=1, basis=Basis.DERIVED, note="")
    return Replica(
        name=name,
        gpu_uuids=tuple(f"GPU-{gpu}" for gpu in gpus),
        gpu_labels=tuple(map(str, gpus)),
        gpu_memory_utilization=share,
        memory=Memory(total=one, budget=one, weights=one, reserve=one, kv_cache=one, kv_cache_needed=one),
        kv_cache=KvCache(block_size=16, bytes_per_block=1, num_blocks=1, tokens=16, max_concurrency=1.0),
    )


def fleet(*replicas: Replica) -> dict[str, Replica]:
    return {each.name: each for each in replicas}


def test_no_more_of_them_than_needed() -> None:
    planned = fleet(replica("a", 0.30, 0), replica("b", 0.305, 0), replica("new", 0.30, 0))
    held = fleet(replica("a", 0.60, 0), replica("b", 0.31, 0))
    assert giving_way(planned, held, ["new"]) == {"a": "gives up memory on GPU 0 for new"}


def test_what_is_measured_a_little_differently_is_no_reason() -> None:
    planned = fleet(replica("a", 0.455, 0), replica("b", 0.455, 0))
    held = fleet(replica("a", 0.46, 0), replica("b", 0.46, 0))
    assert giving_way(planned, held, []) == {}
    assert giving_way(planned, {"a": held["a"]}, ["b"]) == {}  # b crashed and starts again


def test_another_gpu_is_another_matter() -> None:
    planned = fleet(replica("a", 0.50, 0), replica("b", 0.92, 1), replica("new", 0.92, 2))
    held = fleet(replica("a", 0.92, 0), replica("b", 0.92, 1))
    assert giving_way(planned, held, ["new"]) == {}


def test_one_that_starts_again_as_large_as_it_was_needs_nobody_to_move() -> None:
    planned = fleet(replica("a", 0.40, 0), replica("b", 0.40, 0))
    held = fleet(replica("a", 0.46, 0), replica("b", 0.46, 0))
    assert giving_way(planned, held, ["b"]) == {}


def test_one_start_frees_both_gpus_of_a_split_model() -> None:
    planned = fleet(replica("a", 0.4, 0, 1), replica("x", 0.5, 0), replica("y", 0.5, 1))
    assert giving_way(planned, fleet(replica("a", 0.92, 0, 1)), ["x", "y"]) == {"a": "gives up memory on GPU 0 for x"}


shares = st.lists(st.floats(0, 0.46), min_size=3, max_size=3)


@given(before=shares, after=shares, starting=st.sets(st.sampled_from("abc")), there=st.sets(st.sampled_from("abc")))
def test_whoever_starts_finds_the_memory_that_the_plan_gives_it(before, after, starting, there) -> None:
    """On one GPU: what everybody holds at the end is within the plan, or nobody holds more than it did before."""
    planned = fleet(*(replica(name, share, 0) for name, share in zip("abc", after, strict=True)))
    held = {name: replica(name, share, 0) for name, share in zip("abc", before, strict=True) if name in there}
    starting |= set("abc") - there
    again = starting | giving_way(planned, held, sorted(starting)).keys()
    at_end = {name: (planned if name in again else held)[name].gpu_memory_utilization for name in "abc"}
    grown = [name for name in "abc" if at_end[name] > (held[name].gpu_memory_utilization if name in held else 0)]
    assert not grown or sum(at_end.values()) <= sum(after) + MEASURED_DRIFT + 1e-9
