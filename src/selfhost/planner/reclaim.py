"""The machine as it would be without our own engines: a plan for them must not count them as somebody else's. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.planner.claims import ManifestClaims
from selfhost.planner.devices import HOST
from selfhost.planner.reconcile import HOLDS_NOTHING, ObservedReplica


def without_ours(inventory: Inventory, replicas: Sequence[ObservedReplica]) -> Inventory:
    """Add to what is free the budgets of the replicas that run."""
    freed: dict[str, int] = {}
    for each in replicas:
        if each.state not in HOLDS_NOTHING:
            for device in each.replica.gpu_uuids or (HOST,):
                freed[device] = freed.get(device, 0) + each.replica.memory.budget.bytes
    return _with_freed(inventory, freed)


def without_leftovers(inventory: Inventory, ours: ManifestClaims) -> Inventory:
    """Add to what is free what engines hold whose manager was killed: the next one ends them before it starts any."""
    return _with_freed(inventory, {claim.device: ours.held_bytes(claim.device) for claim in ours.claims})


def _with_freed(inventory: Inventory, freed: Mapping[str, int]) -> Inventory:
    """`inventory` with so many bytes more free, by device."""
    host = inventory.host
    available = min(host.memory_total_bytes, host.memory_available_bytes + freed.get(HOST, 0))
    return replace(
        inventory,
        host=replace(host, memory_available_bytes=available),
        gpus=tuple(_freer(gpu, freed.get(gpu.uuid, 0)) for gpu in inventory.gpus),
    )


def _freer(gpu: Gpu, freed_bytes: int) -> Gpu:
    if gpu.memory_free_bytes is None or gpu.memory_total_bytes is None:
        return gpu
    return replace(gpu, memory_free_bytes=min(gpu.memory_total_bytes, gpu.memory_free_bytes + freed_bytes))
