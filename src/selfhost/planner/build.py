"""build_plan: what was asked for, what is there and what the models are become the Plan. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfhost.catalog.model import Checkpoint
from selfhost.errors import BlockedError, SelfhostError
from selfhost.hardware.inventory import Inventory
from selfhost.manifest.schema import Manifest, Model
from selfhost.planner import kv_cache
from selfhost.planner.devices import HOST, Device, devices
from selfhost.planner.fit import Fit, find_fit
from selfhost.planner.placement import Ledger
from selfhost.planner.plan import (
    Basis,
    Deployment,
    EngineBuild,
    Figure,
    GatewayPlan,
    Memory,
    Plan,
    Platform,
    Replica,
)
from selfhost.planner.routing import HashedKey
from selfhost.planner.sizing import Sizing
from selfhost.planner.source import choose_platform
from selfhost.units import format_bytes

UTILIZATION_STEPS = 10_000  # --gpu-memory-utilization is passed with four decimals, rounded down


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The checkpoint of one model of the manifest, and why it is this one."""

    checkpoint: Checkpoint
    cause: str


class PlanError(BlockedError):
    """Some models cannot be served here; every one of them is named, with the number that decided."""

    def __init__(self, refusals: Sequence[SelfhostError]) -> None:
        lines = [f"{refusal.message}" + (f"\n  {refusal.hint}" if refusal.hint else "") for refusal in refusals]
        super().__init__(
            "\n".join(lines), hint="`selfhost gpus` shows what is there; nothing was downloaded or started"
        )
        self.refusals = tuple(refusals)


def build_plan(manifest: Manifest, inventory: Inventory, found: Mapping[str, Found]) -> Plan:
    """Plan every model of `manifest`; `found` holds the checkpoint of each by the model's name.

    Raises `PlanError` with every model that does not fit, and the nearest thing that would.
    """
    platform = choose_platform(inventory)
    ledger = Ledger(devices(inventory, platform))
    fits: dict[str, Fit] = {}
    refusals: list[SelfhostError] = []
    # Models that say how long their requests are come first: the others take what is left.
    for model in sorted(manifest.models, key=lambda model: model.max_model_len is None):
        try:
            fits[model.name] = find_fit(model, found[model.name].checkpoint, platform, ledger)
        except BlockedError as refusal:
            refusals.append(refusal)
    if refusals:
        raise PlanError(refusals)
    return Plan(
        name=manifest.name,
        machine=describe_machine(inventory),
        engine=EngineBuild(
            vllm_version=manifest.engine.vllm,
            platform=platform,
            python=str(manifest.engine.python) if manifest.engine.python else None,
        ),
        gateway=GatewayPlan(
            host=manifest.gateway.listen.host,
            port=manifest.gateway.listen.port,
            keys=tuple(HashedKey(name=key.name, sha256=key.sha256) for key in manifest.gateway.keys),
        ),
        deployments=tuple(_deployment(model, found[model.name], fits[model.name], ledger) for model in manifest.models),
    )


def describe_machine(inventory: Inventory) -> str:
    """One line about what there is: the GPUs, or the host of a CPU box."""
    host = inventory.host
    if not inventory.gpus:
        return f"no GPU, {host.cpu_count} cores, {format_bytes(host.memory_total_bytes)} memory"
    kinds: dict[str, int] = {}
    for gpu in inventory.gpus:
        kinds[gpu.name or "unknown GPU"] = kinds.get(gpu.name or "unknown GPU", 0) + 1
    gpus = ", ".join(f"{count} × {name}" for name, count in kinds.items())
    cuda = ".".join(map(str, inventory.cuda_version)) if inventory.cuda_version else "unknown"
    return f"{gpus}, driver {inventory.driver_version or 'unknown'}, CUDA {cuda}"


def _deployment(model: Model, found: Found, fit: Fit, ledger: Ledger) -> Deployment:
    return Deployment(
        name=model.name,
        aliases=model.aliases,
        checkpoint=found.checkpoint.ref,
        max_model_len=fit.max_model_len,
        concurrency=model.concurrency,
        tensor_parallel_size=fit.sizing.tensor_parallel_size,
        gpu_memory_utilization=model.gpu_memory_utilization,
        engine_args={**found.checkpoint.engine_args, **model.engine_args},
        replicas=tuple(
            _replica(f"{model.name}/{number}", model, fit, group, ledger) for number, group in enumerate(fit.groups)
        ),
        causes=(found.cause, *fit.causes),
    )


def _replica(name: str, model: Model, fit: Fit, group: tuple[Device, ...], ledger: Ledger) -> Replica:
    sizing, device = fit.sizing, group[0]
    needed = sizing.needed_bytes(fit.max_model_len, model.concurrency)
    on_cpu = sizing.platform is Platform.CPU
    spare = 0 if on_cpu else min(ledger.share(member, model.gpu_memory_utilization) for member in group)
    budget_bytes, utilization = needed + spare, None
    if not on_cpu:
        steps = (budget_bytes + 1) * UTILIZATION_STEPS // device.total.bytes  # + 1: 92 % is 0.92, not 0.9199
        utilization = steps / UTILIZATION_STEPS
        budget_bytes = device.total.bytes * steps // UTILIZATION_STEPS
    kv_bytes = budget_bytes - sizing.fixed_bytes
    return Replica(
        name=name,
        gpu_uuids=tuple(member.id for member in group if member.id != HOST),
        gpu_labels=tuple(member.label for member in group if member.id != HOST),
        gpu_memory_utilization=utilization,
        memory=_memory(model, fit, sizing, device, budget_bytes, utilization),
        kv_cache=kv_cache.plan_kv_cache(
            sizing.kv_bytes_per_token, sizing.platform, available_bytes=kv_bytes, max_model_len=fit.max_model_len
        ),
    )


def _memory(
    model: Model, fit: Fit, sizing: Sizing, device: Device, budget_bytes: int, utilization: float | None
) -> Memory:
    share = "as needed" if utilization is None else f"{utilization:.4g} of the total"
    if device.cause and device.usable_bytes < device.total.bytes * model.gpu_memory_utilization:
        share += f", {device.cause}"
    return Memory(
        total=device.total,
        budget=Figure(bytes=budget_bytes, basis=Basis.DERIVED, note=share),
        weights=sizing.weights,
        reserve=sizing.reserve,
        kv_cache=Figure(
            bytes=budget_bytes - sizing.fixed_bytes,
            basis=sizing.reserve.basis if utilization is not None else Basis.DERIVED,
            note="the rest" if utilization is not None else "as needed",
        ),
        kv_cache_needed=Figure(
            bytes=sizing.kv_bytes(fit.max_model_len, model.concurrency),
            basis=Basis.DERIVED,
            note=(f"{model.concurrency:,} × {fit.max_model_len:,} tokens of {format_bytes(sizing.kv_bytes_per_token)}"),
        ),
    )
