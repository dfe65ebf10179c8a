"""How large a KV cache is, for decoders whose every layer is plain attention (vLLM 0.32; exact).

One group of equal layers: `v1/kv_cache_interface.py:FullAttentionSpec`, `v1/core/kv_cache_utils.py`.
"""

from math import ceil

from selfhost.catalog.model import ModelSpec
from selfhost.planner.plan import KvCache, Platform

KV_DTYPE_BYTES = 2  # bfloat16 and float16: `--kv-cache-dtype auto` takes the model's own dtype

# Tokens per block (`platforms/interface.py:update_block_size_for_backend`, `platforms/cpu.py`).
BLOCK_SIZE = {Platform.CUDA: 16, Platform.CPU: 128}


def bytes_per_token(spec: ModelSpec, tensor_parallel_size: int) -> int:
    """Keys and values of one token on one GPU; KV heads are replicated when there are more GPUs than heads.

    `config/model.py:get_num_kv_heads`: max(1, kv_heads // tensor_parallel_size).
    """
    local_heads = max(1, spec.num_key_value_heads // tensor_parallel_size)
    return 2 * spec.num_hidden_layers * local_heads * spec.head_dim * KV_DTYPE_BYTES


def bytes_needed(per_token: int, platform: Platform, *, max_model_len: int, concurrency: int) -> int:
    """The smallest KV cache that holds `concurrency` requests of `max_model_len` tokens.

    One block more than the requests take: block 0 is never handed out (`v1/core/block_pool.py:null_block`).
    """
    block_size = BLOCK_SIZE[platform]
    return (concurrency * ceil(max_model_len / block_size) + 1) * block_size * per_token


def plan_kv_cache(per_token: int, platform: Platform, *, available_bytes: int, max_model_len: int) -> KvCache:
    """What the engine makes of `available_bytes` (`v1/core/kv_cache_utils.py:get_kv_cache_capacity`)."""
    block_size = BLOCK_SIZE[platform]
    bytes_per_block = block_size * per_token
    num_blocks = available_bytes // bytes_per_block
    max_concurrency = num_blocks / ceil(max_model_len / block_size)
    return KvCache(
        block_size=block_size,
        bytes_per_block=bytes_per_block,
        num_blocks=num_blocks,
        tokens=int(max_concurrency * max_model_len),
        max_concurrency=max_concurrency,
    )


def longest_fit(per_token: int, platform: Platform, *, available_bytes: int, concurrency: int) -> int:
    """The largest `max_model_len` (a multiple of the block size; 0: none) of which `concurrency` requests fit."""
    block_size = BLOCK_SIZE[platform]
    blocks = available_bytes // (block_size * per_token) - 1
    return max(0, blocks // concurrency) * block_size


def most_requests(per_token: int, platform: Platform, *, available_bytes: int, max_model_len: int) -> int:
    """How many requests of `max_model_len` tokens fit at once (0: not even one)."""
    block_size = BLOCK_SIZE[platform]
    blocks = available_bytes // (block_size * per_token) - 1
    return max(0, blocks // ceil(max_model_len / block_size))
