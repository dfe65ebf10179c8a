"""Why a model does not fit: the number that decided, and the nearest thing that would. Pure."""

from collections.abc import Sequence

from selfhost.catalog.model import Checkpoint
from selfhost.errors import BlockedError
from selfhost.manifest.schema import Model
from selfhost.planner.parallelism import tensor_parallel_sizes
from selfhost.planner.plan import Platform
from selfhost.planner.sizing import Sizing, size
from selfhost.units import format_bytes

MOST_GPUS = 16  # considered when telling how many GPUs would do


def does_not_fit(
    model: Model, checkpoint: Checkpoint, wanted: int, tried: Sequence[tuple[Sizing, int]]
) -> BlockedError:
    """The refusal of `model` at `wanted` tokens per request.

    `tried` holds every split and what each of its devices has left.
    """
    nearest, offer = min(tried, key=lambda each: each[0].needed_bytes(wanted, model.concurrency) - each[1])
    needed = nearest.needed_bytes(wanted, model.concurrency)
    weights, reserve = format_bytes(nearest.weights.bytes), format_bytes(nearest.reserve.bytes)
    kv_cache = format_bytes(nearest.kv_bytes(wanted, model.concurrency))
    return BlockedError(
        f"{model.name}: {checkpoint.ref.label} needs {format_bytes(needed)} {_where(model, nearest)} "
        f"({weights} weights, {reserve} reserve, {kv_cache} KV cache for {model.concurrency:,} × {wanted:,} tokens); "
        f"{format_bytes(offer)} is left",
        hint=f"would fit: {', or '.join(_what_would_fit(model, checkpoint, nearest, wanted, offer))}",
    )


def _where(model: Model, sizing: Sizing) -> str:
    if sizing.platform is Platform.CPU:
        place = "of the host's memory"
    elif sizing.tensor_parallel_size == 1:
        place = "on one GPU"
    else:
        place = f"on each of {sizing.tensor_parallel_size} GPUs"
    return f"{place} for each of {model.replicas} replicas" if model.replicas > 1 else place


def _what_would_fit(model: Model, checkpoint: Checkpoint, sizing: Sizing, wanted: int, offer: int) -> list[str]:
    options = []
    if requests := sizing.most_requests(offer, wanted):
        options.append(f"concurrency: {requests}")
    if length := sizing.longest_fit(offer, model.concurrency):
        options.append(f"max_model_len: {length}")
    if sizing.platform is Platform.CUDA and (gpus := _gpus_that_would_do(model, checkpoint, sizing, wanted)):
        options.append(f"{gpus} empty GPUs like this ({sizing.kind[0].name})")
    return options or ["a smaller model, or more memory"]


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
