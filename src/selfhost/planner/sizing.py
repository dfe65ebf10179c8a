"""What one model asks of each device at one tensor parallel size. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from selfhost.catalog.model import Checkpoint
from selfhost.planner import kv_cache, memory
from selfhost.planner.placement import Kind
from selfhost.planner.plan import EngineArgs, Figure, Platform

# Engine arguments that change what is sized here in ways that the rules do not cover, each with what it changes.
UNSIZED_ARGUMENTS: Mapping[str, str] = {
    "block-size": "the KV cache blocks",
    "cpu-offload-gb": "where the weights live",
    "dtype": "the size of weights and KV cache",
    "enable-expert-parallel": "how the weights are split",
    "enable-lora": "the memory for adapters",
    "hf-overrides": "the architecture",
    "kv-cache-dtype": "the size of the KV cache",
    "kv-offloading-size": "where the KV cache lives",
    "quantization": "the size of the weights",
    "speculative-config": "the memory for a draft model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The memory a replica needs on each device, as a function of its KV cache."""

    platform: Platform
    kind: Kind  # the devices it is sized for
    tensor_parallel_size: int
    weights: Figure
    reserve: Figure
    kv_bytes_per_token: int

    @property
    def fixed_bytes(self) -> int:
        """Everything but the KV cache."""
        return self.weights.bytes + self.reserve.bytes

    def kv_bytes(self, max_model_len: int, concurrency: int) -> int:
        """KV cache for `concurrency` requests of `max_model_len` tokens."""
        return kv_cache.bytes_needed(
            self.kv_bytes_per_token, self.platform, max_model_len=max_model_len, concurrency=concurrency
        )

    def needed_bytes(self, max_model_len: int, concurrency: int) -> int:
        """All that a replica needs on each device."""
        return self.fixed_bytes + self.kv_bytes(max_model_len, concurrency)

    def longest_fit(self, available_bytes: int, concurrency: int) -> int:
        """The largest `max_model_len` that fits `available_bytes`; 0 when nothing does."""
        return kv_cache.longest_fit(
            self.kv_bytes_per_token,
            self.platform,
            available_bytes=max(0, available_bytes - self.fixed_bytes),
            concurrency=concurrency,
        )

    def most_requests(self, available_bytes: int, max_model_len: int) -> int:
        """The largest `concurrency` that fits `available_bytes`; 0 when nothing does."""
        return kv_cache.most_requests(
            self.kv_bytes_per_token,
            self.platform,
            available_bytes=max(0, available_bytes - self.fixed_bytes),
            max_model_len=max_model_len,
        )


def size(
    checkpoint: Checkpoint, kind: Kind, platform: Platform, *, tensor_parallel_size: int, engine_args: EngineArgs
) -> Sizing:
    """Size `checkpoint` for devices of this kind."""
    spec = checkpoint.spec
    batch = memory.default_batch(platform, kind[0].name, kind[0].batch_bytes)
    batch = memory.Batch(
        max_num_seqs=_override(engine_args, "max-num-seqs", batch.max_num_seqs),
        max_num_batched_tokens=_override(engine_args, "max-num-batched-tokens", batch.max_num_batched_tokens),
    )
    return Sizing(
        platform=platform,
        kind=kind,
        tensor_parallel_size=tensor_parallel_size,
        weights=memory.weights_per_gpu(checkpoint.tensors, spec, tensor_parallel_size),
        reserve=memory.reserve(spec, batch, platform, tensor_parallel_size, unified_memory=kind[0].unified_memory),
        kv_bytes_per_token=kv_cache.bytes_per_token(spec, tensor_parallel_size),
    )


def _override(engine_args: EngineArgs, key: str, default: int) -> int:
    value = engine_args.get(key, default)
    return value if isinstance(value, int) else default
