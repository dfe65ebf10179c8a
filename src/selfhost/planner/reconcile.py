"""reconcile: the plan and what is there become the steps that are missing, each with its cause. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from selfhost.planner.actions import Action, FetchWeights, InstallEngine, ServeGateway, StartReplica, Step, StopReplica
from selfhost.planner.plan import Deployment, EngineBuild, GatewayPlan, Plan, Platform, Replica
from selfhost.planner.routing import ReplicaState
from selfhost.planner.sharing import giving_way
from selfhost.units import format_bytes

GIVEN_UP = (ReplicaState.FAILED, ReplicaState.HOST_FAULT)

# What does not come back by itself. A stop that has begun runs to its end, whoever wants the replica after all.
NOT_COMING_BACK = (ReplicaState.DRAINING, *GIVEN_UP)

HOLDS_NOTHING = (
    ReplicaState.QUEUED,
    ReplicaState.PULLING,
    ReplicaState.BACKOFF,
    ReplicaState.FAILED,
    ReplicaState.HOST_FAULT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedReplica:
    """A replica as it was started, and how it is."""

    engine: EngineBuild
    deployment: Deployment
    replica: Replica
    state: ReplicaState


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedState:
    """A snapshot of what is there; reconcile asks nothing else."""

    engine_installed: bool = False
    missing_weights: Mapping[str, int] | None = None  # checkpoint label → bytes to fetch; None: nothing is known
    replicas: tuple[ObservedReplica, ...] = ()
    gateway: GatewayPlan | None = None
    aliases: Mapping[str, tuple[str, ...]] | None = None  # deployment → aliases that the gateway knows


def reconcile(plan: Plan, observed: ObservedState) -> tuple[Step, ...]:
    """The steps from `observed` to `plan`, in an order that can be carried out; none when nothing is to be done."""
    return _in_order(plan, observed, list(_actions(plan, observed)))


def _actions(plan: Plan, observed: ObservedState) -> Iterator[Action]:
    stops, starts = _replicas(plan, observed)
    if starts and not observed.engine_installed:
        eager = all(each.engine_args.get("enforce-eager") is True for each in plan.deployments)
        yield InstallEngine(engine=plan.engine, needs_compiler=not eager, cause="not installed")
    missing = observed.missing_weights or {}
    for label, checkpoint in {each.checkpoint.label: each.checkpoint for each in plan.deployments}.items():
        if missing.get(label):
            yield FetchWeights(checkpoint=checkpoint, cause=f"{format_bytes(missing[label])} missing")
    for name, cause in stops.items():
        yield StopReplica(replica=name, cause=cause)
    for name, cause in starts.items():
        yield StartReplica(replica=name, cause=cause)
    if cause := _gateway_cause(plan, observed):
        yield ServeGateway(address=plan.gateway.address, cause=cause)


def _replicas(plan: Plan, observed: ObservedState) -> tuple[dict[str, str], dict[str, str]]:
    """Which replicas to stop and which to start, each with its cause.

    Those that give way start first: they were serving, and need not wait for what the newcomer has to fetch.
    """
    running = {replica.replica.name: replica for replica in observed.replicas}
    planned = {replica.name: (each, replica) for each in plan.deployments for replica in each.replicas}
    stops = {name: "no longer in the manifest" for name in running if name not in planned}
    starts: dict[str, str] = {}
    for name, (deployment, replica) in planned.items():
        if name not in running:
            starts[name] = "not running"
        elif changes := _changes(running[name], plan.engine, deployment, replica):
            stops[name] = starts[name] = changes
        elif running[name].state in NOT_COMING_BACK:
            stops[name] = starts[name] = f"it is {running[name].state}"
    giving = giving_way(
        {name: replica for name, (_, replica) in planned.items()},
        {
            name: each.replica
            for name, each in running.items()
            if name not in starts or each.state not in HOLDS_NOTHING  # what stays will hold its memory again
        },
        starts,
    )
    return stops | giving, giving | starts


def _changes(running: ObservedReplica, engine: EngineBuild, deployment: Deployment, replica: Replica) -> str:
    """What makes a running engine different from the planned one, "" when nothing does.

    A replica's own share of its GPU is left out on purpose: it moves with what is measured as free, and matters only
    while somebody else needs the memory (`giving_way`).
    """
    was, now = running.deployment, deployment
    compared: dict[str, tuple[object, object]] = {
        "vLLM": (_engine_text(running.engine), _engine_text(engine)),
        "checkpoint": (was.checkpoint.label, now.checkpoint.label),
        "max_model_len": (was.max_model_len, now.max_model_len),
        "concurrency": (was.concurrency, now.concurrency),
        "tensor_parallel_size": (was.tensor_parallel_size, now.tensor_parallel_size),
        "gpu_memory_utilization": (was.gpu_memory_utilization, now.gpu_memory_utilization),
        "engine_args": (dict(was.engine_args), dict(now.engine_args)),
    }
    if running.replica.gpu_uuids != replica.gpu_uuids:
        labels = (running.replica.gpu_labels, replica.gpu_labels)
        # A MIG device that was made anew is another one in the same place.
        compared["GPUs"] = labels if labels[0] != labels[1] else (running.replica.gpu_uuids, replica.gpu_uuids)
    return ", ".join(f"{field} {_text(old)} → {_text(new)}" for field, (old, new) in compared.items() if old != new)


def _engine_text(engine: EngineBuild) -> str:
    return f"{engine.vllm_version} ({engine.platform}{', ' + engine.python if engine.python else ''})"


def _text(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    return str(value)


def _gateway_cause(plan: Plan, observed: ObservedState) -> str:
    if observed.gateway is None:
        return "not running"
    if observed.gateway.address != plan.gateway.address:
        return f"gateway.listen {observed.gateway.address} → {plan.gateway.address}"
    if observed.gateway.keys != plan.gateway.keys:
        return "gateway.keys changed"
    aliases = {deployment.name: deployment.aliases for deployment in plan.deployments}
    known = observed.aliases or {}
    changed = [name for name in aliases if known.get(name, ()) != aliases[name]]
    return f"aliases of {', '.join(changed)} changed" if changed else ""


def _in_order(plan: Plan, observed: ObservedState, actions: list[Action]) -> tuple[Step, ...]:
    """Number the actions and say which must wait for which.

    Engines that share a device start one after another, since each measures what is free while it starts, and after
    whatever had to leave that device (vLLM issue 55827). What starts again serves on until what it needs is there.
    """
    deployments = {replica.name: deployment for deployment in plan.deployments for replica in deployment.replicas}
    devices = {replica.replica.name: set(replica.replica.gpu_uuids) for replica in observed.replicas}
    planned = {replica.name: set(replica.gpu_uuids) for each in plan.deployments for replica in each.replicas}
    on_gpu = plan.engine.platform is Platform.CUDA
    steps: list[Step] = []

    def must_wait(action: Action, earlier: Action) -> bool:
        match action, earlier:
            case StartReplica() | StopReplica(), InstallEngine():
                return action.replica in planned
            case StartReplica() | StopReplica(), FetchWeights(checkpoint=checkpoint):
                return action.replica in planned and checkpoint.label == deployments[action.replica].checkpoint.label
            case StartReplica(replica=name), StopReplica(replica=other):
                return other == name or not on_gpu or bool(planned[name] & devices[other])
            case StartReplica(replica=name), StartReplica(replica=other):
                return on_gpu and bool(planned[name] & planned[other])
        return False

    for number, action in enumerate(actions, start=1):
        after = tuple(step.number for step in steps if must_wait(action, step.action))
        steps.append(Step(number=number, action=action, after=after))
    return tuple(steps)
