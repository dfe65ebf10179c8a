"""When a manager accepts a plan: what it claims by that, and whether other manifests have left that much. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from selfhost.errors import BlockedError
from selfhost.planner.claims import Claim, ManifestClaims, describe
from selfhost.planner.devices import HOST
from selfhost.planner.plan import Plan, Replica
from selfhost.planner.reconcile import GIVEN_UP, ObservedReplica
from selfhost.planner.routing import ReplicaState
from selfhost.units import format_bytes

NOT_BEGUN = (ReplicaState.QUEUED, ReplicaState.PULLING)

# vLLM allocates its whole budget before its server answers, the KV cache last of all (`v1/worker/gpu_worker.py`).
HOLDS_ALL = (ReplicaState.WARMING, ReplicaState.READY, ReplicaState.DRAINING)


def claims_of(plan: Plan, running: Sequence[ObservedReplica], leaving: Collection[str]) -> tuple[Claim, ...]:
    """What the manager of `plan` claims while `running` is what there is; `leaving` are those that it will stop."""
    planned = _planned(plan)
    there = {each.replica.name: each for each in running}
    claims = [
        claim for name, each in there.items() for claim in _of_running(each, planned.get(name), leaving=name in leaving)
    ]
    for name, replica in planned.items():
        if name not in there:
            claims += _claims(replica, None, ReplicaState.QUEUED)
    return tuple(claims)


def require_room(
    plan: Plan, running: Sequence[ObservedReplica], leaving: Collection[str], others: Sequence[ManifestClaims]
) -> None:
    """Refuse `plan` when `others` have claimed so much since it was made that what it starts does not fit any more.

    Raises `BlockedError`. Where nothing starts, nothing more is claimed.
    """
    planned = _planned(plan)
    kept = {
        each.replica.name
        for each in running
        if each.replica.name not in leaving and each.state not in {*NOT_BEGUN, *GIVEN_UP}
    }
    started = {device for name, replica in planned.items() if name not in kept for device in _devices(replica)}
    for room in plan.room:
        wanted = sum(replica.memory.budget.bytes for replica in planned.values() if room.device in _devices(replica))
        left = room.bytes - sum(each.promised_bytes(room.device) for each in others)
        if room.device in started and wanted > left:
            raise BlockedError(
                f"'{plan.name}' would take {format_bytes(wanted)} of {room.label}, and {format_bytes(max(0, left))} is "
                f"left: since the plan was made, another manifest has claimed it: {describe(others, room.device)}",
                hint="selfhost gpus shows who holds what; selfhost up again plans with what is left",
            )


def _of_running(each: ObservedReplica, planned: Replica | None, *, leaving: bool) -> Iterator[Claim]:
    """The claims of a replica that is there: as it was started, unless its place will be taken by the planned one."""
    if leaving or planned is None or each.state in NOT_BEGUN:
        wanted = planned
    else:
        wanted = None if each.state in GIVEN_UP else each.replica
    held = each.replica if each.state in HOLDS_ALL else None
    yield from _claims(wanted, held, each.state)


def _claims(wanted: Replica | None, held: Replica | None, state: ReplicaState) -> Iterator[Claim]:
    replicas = [replica for replica in (wanted, held) if replica]
    for device in dict.fromkeys(device for replica in replicas for device in _devices(replica)):
        yield Claim(
            replica=replicas[0].name,
            device=device,
            bytes=_budget(wanted, device),
            held_bytes=_budget(held, device),
            state=state,
        )


def _budget(replica: Replica | None, device: str) -> int:
    return replica.memory.budget.bytes if replica and device in _devices(replica) else 0


def _planned(plan: Plan) -> Mapping[str, Replica]:
    return {replica.name: replica for each in plan.deployments for replica in each.replicas}


def _devices(replica: Replica) -> tuple[str, ...]:
    return replica.gpu_uuids or (HOST,)
