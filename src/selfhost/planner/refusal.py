"""Why a model does not fit: the number that decided, and the nearest thing that would. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfhost.catalog.model import Checkpoint
from selfhost.errors import BlockedError
from selfhost.manifest.schema import Model
from selfhost.planner.parallelism import tensor_parallel_sizes
from selfhost.planner.plan import Platform
from selfhost.planner.sizing import Sizing, size
from selfhost.units import format_bytes

MOST_GPUS = 16  # considered when telling how many GPUs would do


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One way to split the model, and what came of it."""

    sizing: Sizing
    left_bytes: int  # on each of the devices that one replica would take
    replicas: int  # that had room


def does_not_fit(model: Model, checkpoint: Checkpoint, wanted: int, tried: Sequence[Tried]) -> BlockedError:
    """The refusal of `model` at `wanted` tokens per request, told by the split that came nearest."""
    nearest = max(
        tried,
        key=lambda each: (each.replicas, each.left_bytes - each.sizing.needed_bytes(wanted, model.concurrency)),
    )
    sizing = nearest.sizing
    needed = format_bytes(sizing.needed_bytes(wanted, model.concurrency))
    weights, reserve = format_bytes(sizing.weights.bytes), format_bytes(sizing.reserve.bytes)
    kv_cache = format_bytes(sizing.kv_bytes(wanted, model.concurrency))
    if nearest.replicas:
        left = f"there is room for {nearest.replicas} of {model.replicas} replicas"
        options = [f"replicas: {nearest.replicas}"]
    else:
        left = f"{format_bytes(nearest.left_bytes)} is left"
        options = _what_would_fit(model, sizing, wanted, nearest.left_bytes)
    device = sizing.kind[0]
    if (
        sizing.platform is Platform.CUDA
        and not device.mig
        and (gpus := _gpus_that_would_do(model, checkpoint, sizing, wanted))
    ):
        options.append(f"{gpus} empty GPUs like this ({device.name})")
    return BlockedError(
        f"{model.name}: {checkpoint.ref.label} needs {needed} {_where(sizing)} ({weights} weights, {reserve} reserve, "
        f"{kv_cache} KV cache for {model.concurrency:,} × {wanted:,} tokens); {left}",
        hint=f"would fit: {', or '.join(options or ['a smaller model, or more memory'])}",
    )


def _where(sizing: Sizing) -> str:
    if sizing.platform is Platform.CPU:
        return "of the host's memory"
    if sizing.kind[0].mig:
        return "on one MIG device"
    parts = sizing.tensor_parallel_size
    return f"on each of {parts} GPUs" if parts > 1 else "on one GPU"


def _what_would_fit(model: Model, sizing: Sizing, wanted: int, left_bytes: int) -> list[str]:
    options = []
    if requests := sizing.most_requests(left_bytes, wanted):
        options.append(f"concurrency: {requests}")
    if length := sizing.longest_fit(left_bytes, model.concurrency):
        options.append(f"max_model_len: {length}")
    return options


def _gpus_that_would_do(model: Model, checkpoint: Checkpoint, sizing: Sizing, wanted: int) -> int | None:
    """How many empty GPUs of this kind would hold every replica."""
    device = sizing.kind[0]
    offer = int(device.total.bytes * model.gpu_memory_utilization)
    for parts in tensor_parallel_sizes(checkpoint.spec, MOST_GPUS):
        larger = size(
            checkpoint, sizing.kind, sizing.platform, tensor_parallel_size=parts, engine_args=model.engine_args
        )
        if larger.needed_bytes(wanted, model.concurrency) <= offer:
            return parts * model.replicas
    return None
