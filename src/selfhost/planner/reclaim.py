"""The machine as it would be without our own engines: a plan for them must not count them as somebody else's. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.planner.reconcile import HOLDS_NOTHING, ObservedReplica


def without_ours(inventory: Inventory, replicas: Sequence[ObservedReplica]) -> Inventory:
    """Add to what is free the budgets of the replicas that run."""
    running = [replica.replica for replica in replicas if replica.state not in HOLDS_NOTHING]
    on_host = sum(replica.memory.budget.bytes for replica in running if not replica.gpu_uuids)
    host = inventory.host
    return replace(
        inventory,
        host=replace(
            host,
            memory_available_bytes=min(host.memory_total_bytes, host.memory_available_bytes + on_host),
        ),
        gpus=tuple(
            _with_freed(gpu, sum(replica.memory.budget.bytes for replica in running if gpu.uuid in replica.gpu_uuids))
            for gpu in inventory.gpus
        ),
    )


def _with_freed(gpu: Gpu, ours: int) -> Gpu:
    if gpu.memory_free_bytes is None or gpu.memory_total_bytes is None:
        return gpu
    return replace(gpu, memory_free_bytes=min(gpu.memory_total_bytes, gpu.memory_free_bytes + ours))
