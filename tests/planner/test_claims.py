"""What manifests claim of a device, and what that leaves to the next one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.errors import BlockedError
from selfhost.hardware.inventory import Gpu, Host, Inventory
from selfhost.manifest.schema import Manifest
from selfhost.planner.acceptance import claims_of, require_room
from selfhost.planner.build import Found, PlanError, build_plan
from selfhost.planner.claims import Claim, ManifestClaims, describe, pending_bytes
from selfhost.planner.plan import Plan
from selfhost.planner.reclaim import without_leftovers
from selfhost.planner.reconcile import ObservedReplica
from selfhost.planner.routing import ReplicaState
from selfhost.planner.text import render_plan
from selfhost.units import GIB

HOST = Host(architecture="x86_64", cpu_count=16, memory_total_bytes=256 * GIB, memory_available_bytes=240 * GIB)
H100 = Gpu(
    index=0,
    uuid="GPU-0",
    name="NVIDIA H100 80GB HBM3",
    memory_total_bytes=80 * GIB,
    memory_free_bytes=80 * GIB,
    compute_capability=(9, 0),
    pci_bus_id="0000:00:00.0",
)
CHAT = {"name": "chat", "max_model_len": 8192, "gpu_memory_utilization": 0.5}
PENDING = [ReplicaState.QUEUED, ReplicaState.PULLING, ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.BACKOFF]
HELD = [ReplicaState.WARMING, ReplicaState.READY, ReplicaState.DRAINING]


def claim(replica: str, gib: int, held: int = 0, *, device: str = "GPU-0") -> Claim:
    return Claim(replica=replica, device=device, bytes=gib * GIB, held_bytes=held * GIB, state=ReplicaState.QUEUED)


def manifest(name: str, *claims: Claim) -> ManifestClaims:
    return ManifestClaims(manifest=name, claims=claims)


def box(free_gib: int = 80) -> Inventory:
    return Inventory(host=HOST, gpus=(replace(H100, memory_free_bytes=free_gib * GIB),), cuda_version=(13, 0))


@pytest.fixture
def plan_for(checkpoint):
    def make(*models: dict, on: Inventory, beside: tuple[ManifestClaims, ...] = (), name: str = "box") -> Plan:
        asked = Manifest.model_validate({"version": 1, "name": name, "models": models})
        found = {model.name: Found(checkpoint=checkpoint("Qwen/Qwen3-8B"), cause="asked for") for model in asked.models}
        return build_plan(asked, on, found, beside)

    return make


def running(plan: Plan, state: ReplicaState) -> list[ObservedReplica]:
    return [
        ObservedReplica(engine=plan.engine, deployment=each, replica=one, state=state)
        for each in plan.deployments
        for one in each.replicas
    ]


@pytest.mark.parametrize(
    "claims, held, promised",
    [
        ([claim("chat/0", 40)], 0, 40),  # still downloads
        ([claim("chat/0", 40, 40)], 40, 40),  # serves
        ([claim("chat/0", 0, 40)], 40, 40),  # leaves
        ([claim("chat/0", 0, 40), claim("new/0", 30)], 40, 40),  # its successor starts when it is gone
        ([claim("chat/0", 20, 40), claim("new/0", 30)], 40, 50),  # gives way
        ([claim("chat/0", 40, 40), claim("far/0", 99, device="GPU-1")], 40, 40),
    ],
)
def test_a_device_is_left_before_others_start_on_it(claims, held: int, promised: int) -> None:
    mine = manifest("left", *claims)
    assert (mine.held_bytes("GPU-0"), mine.promised_bytes("GPU-0")) == (held * GIB, promised * GIB)
    assert pending_bytes([mine], "GPU-0") == (promised - held) * GIB
    assert describe([mine, manifest("idle", claim("x/0", 0))], "GPU-0") == f"'left' ({promised}.0 GiB)".replace(
        ".0", ""
    )


@pytest.mark.parametrize("state", list(ReplicaState))
def test_what_a_replica_claims_in_each_state(plan_for, state: ReplicaState) -> None:
    plan = plan_for(CHAT, on=box())
    budget = plan.deployments[0].replicas[0].memory.budget.bytes
    (mine,) = claims_of(plan, running(plan, state), ()) or [claim("chat/0", 0)]
    given_up = state in {ReplicaState.FAILED, ReplicaState.HOST_FAULT}
    assert mine.bytes == (0 if given_up else budget)
    assert mine.held_bytes == (budget if state in HELD else 0)
    assert set(ReplicaState) == {*PENDING, *HELD, ReplicaState.FAILED, ReplicaState.HOST_FAULT}


def test_a_replica_that_stays_claims_what_it_was_started_with_and_one_that_leaves_what_comes(plan_for) -> None:
    small = plan_for(CHAT, on=box(30))
    large = plan_for(CHAT, on=box())
    was, will = (each.deployments[0].replicas[0].memory.budget.bytes for each in (small, large))
    there = running(small, ReplicaState.READY)
    (stays,) = claims_of(large, there, ())
    (leaves,) = claims_of(large, there, {"chat/0"})
    assert (stays.bytes, stays.held_bytes) == (was, was)
    assert (leaves.bytes, leaves.held_bytes) == (will, was)
    empty = replace(large, deployments=())
    (removed,) = claims_of(empty, there, {"chat/0"})
    assert (removed.bytes, removed.held_bytes) == (0, was)
    (unbegun,) = claims_of(large, running(small, ReplicaState.QUEUED), ())
    assert unbegun.bytes == will


def test_what_others_will_take_is_left_to_them_and_the_plan_says_so(plan_for) -> None:
    other = manifest("left", claim("chat/0", 50))
    plan = plan_for(CHAT, on=box(), beside=(other,))
    assert plan.deployments[0].replicas[0].memory.budget.bytes <= 30 * GIB
    assert "less what 'left' (50 GiB) will take" in render_plan(plan)


def test_what_others_hold_is_not_counted_twice(plan_for) -> None:
    holds = manifest("left", claim("chat/0", 30, 30))
    alone = plan_for(CHAT, on=box(50))
    beside = plan_for(CHAT, on=box(50), beside=(holds,))
    assert beside.deployments == alone.deployments
    assert [room.bytes - 30 * GIB for room in beside.room] == [room.bytes for room in alone.room]


def test_a_refusal_names_who_else_claims_the_device(plan_for) -> None:
    other = manifest("left", claim("chat/0", 40, 40), claim("big/0", 35))
    with pytest.raises(PlanError, match=r"other manifests hold or have claimed their part: 'left' \(75 GiB\) of GPU 0"):
        plan_for(CHAT, on=box(40), beside=(other,))


def test_of_two_plans_made_at_once_only_the_first_is_accepted(plan_for) -> None:
    first, second = (plan_for({**CHAT, "gpu_memory_utilization": 0.6}, on=box(), name=name) for name in ("a", "b"))
    require_room(first, (), (), ())
    claimed = ManifestClaims(manifest="a", claims=claims_of(first, (), ()))
    with pytest.raises(BlockedError, match=r"'b' would take 48 GiB of GPU 0, and 31\.5 GiB is left: .*'a' \(48"):
        require_room(second, (), (), [claimed])
    for state in ReplicaState:  # however far the first has come since
        now = ManifestClaims(manifest="a", claims=claims_of(first, running(first, state), ()))
        if state in {ReplicaState.FAILED, ReplicaState.HOST_FAULT}:
            require_room(second, (), (), [now])
        else:
            with pytest.raises(BlockedError):
                require_room(second, (), (), [now])


def test_halves_of_a_gpu_are_for_two(plan_for) -> None:
    half = {**CHAT, "gpu_memory_utilization": 0.45}
    first, second = (plan_for(half, on=box(), name=name) for name in ("a", "b"))
    require_room(second, (), (), [ManifestClaims(manifest="a", claims=claims_of(first, (), ()))])


def test_where_nothing_starts_nothing_is_refused(plan_for) -> None:
    plan = plan_for(CHAT, on=box())
    greedy = manifest("greedy", claim("x/0", 80))
    require_room(plan, running(plan, ReplicaState.READY), (), [greedy])
    require_room(plan, running(plan, ReplicaState.BACKOFF), (), [greedy])
    for state, leaving in ((ReplicaState.READY, {"chat/0"}), (ReplicaState.FAILED, set()), (ReplicaState.QUEUED, ())):
        with pytest.raises(BlockedError):
            require_room(plan, running(plan, state), leaving, [greedy])


def test_on_a_cpu_box_the_memory_of_the_host_is_shared(plan_for) -> None:
    cpu = Inventory(host=HOST)
    first, second = (plan_for({"name": "chat", "max_model_len": 8192}, on=cpu, name=name) for name in ("a", "b"))
    (mine,) = claims_of(first, (), ())
    assert mine.device == "host"
    require_room(second, (), (), [manifest("a", mine)])
    with pytest.raises(BlockedError, match="of the host's memory"):
        require_room(second, (), (), [manifest("a", claim("big/0", 235, device="host"))])


def test_what_engines_without_a_manager_hold_is_free_for_their_own_manifest() -> None:
    freed = without_leftovers(box(20), manifest("box", claim("chat/0", 50, 50), claim("late/0", 10)))
    assert freed.gpus[0].memory_free_bytes == 70 * GIB


@given(
    free=st.integers(20, 80),
    others=st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=3),
)
def test_a_plan_is_always_accepted_when_nothing_has_changed(checkpoint, free: int, others) -> None:
    beside = tuple(
        manifest(f"m{number}", claim("x/0", gib, gib if held else 0)) for number, (gib, held) in enumerate(others)
    )
    asked = Manifest.model_validate(
        {"version": 1, "name": "box", "models": ({**CHAT, "gpu_memory_utilization": 0.98},)}
    )
    found = {"chat": Found(checkpoint=checkpoint("Qwen/Qwen3-8B"), cause="asked for")}
    try:
        plan = build_plan(asked, box(free), found, beside)
    except PlanError:
        return
    require_room(plan, (), (), beside)
