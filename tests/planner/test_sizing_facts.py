"""Our arithmetic against the answers of vLLM 0.32: its model classes on the meta device, its own KV cache planner."""

import pytest

from selfhost.planner import kv_cache, memory
from selfhost.planner.plan import Basis, Platform
from selfhost.units import GIB

QWEN_8B, QWEN_32B, QWEN_MOE = "Qwen/Qwen3-8B", "Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B"
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
LLAMA_8B, LLAMA_70B = "meta-llama/Meta-Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-70B"


@pytest.mark.parametrize(
    "repo, parts, parameter_bytes",
    [
        (QWEN_8B, 1, 16_381_470_720),
        (QWEN_8B, 4, 4_095_830_016),
        (QWEN_8B, 16, 1_062_168_576),
        (QWEN_32B, 2, 32_762_800_128),
        (QWEN_32B, 4, 16_382_076_928),
        (QWEN_MOE, 2, 30_544_916_480),
        (QWEN_MOE, 4, 15_285_252_096),
        (QWEN_MOE, 8, 7_680_585_728),
        (MIXTRAL, 2, 46_704_107_520),
        (MIXTRAL, 4, 23_353_368_576),
        (LLAMA_8B, 1, 16_060_522_496),
        (LLAMA_8B, 4, 4_015_529_984),
        (LLAMA_70B, 4, 35_278_831_616),
    ],
)
def test_weights_per_gpu_are_vllms_parameter_bytes(checkpoint, repo: str, parts: int, parameter_bytes: int) -> None:
    model = checkpoint(repo)
    rotary_cache = model.spec.max_position_embeddings * model.spec.head_dim * 2
    weights = memory.weights_per_gpu(model.tensors, model.spec, parts)
    assert weights.bytes == parameter_bytes + rotary_cache
    assert weights.basis is Basis.DERIVED


@pytest.mark.parametrize(
    "repo, parts, available_gib, max_model_len, num_blocks, bytes_per_block, tokens",
    [
        (QWEN_8B, 1, 20, 40960, 9102, 2359296, 145632),
        (QWEN_8B, 1, 6, 40960, 2730, 2359296, 43680),
        (QWEN_8B, 4, 20, 32768, 36408, 589824, 582528),
        (QWEN_8B, 16, 20, 40960, 72817, 294912, 1165072),
        (QWEN_32B, 2, 20, 40960, 10240, 2097152, 163840),
        (QWEN_MOE, 2, 20, 40960, 27306, 786432, 436896),
        (QWEN_MOE, 8, 20, 40960, 54613, 393216, 873808),
        (MIXTRAL, 2, 20, 32768, 20480, 1048576, 327680),
        (LLAMA_8B, 1, 20, 131072, 10240, 2097152, 163840),
        (LLAMA_8B, 1, 4, 32752, 2048, 2097152, 32768),
        (LLAMA_70B, 4, 20, 32768, 16384, 1310720, 262144),
    ],
)
def test_the_kv_cache_is_vllms_to_the_block(
    checkpoint, repo, parts, available_gib, max_model_len, num_blocks, bytes_per_block, tokens
) -> None:
    planned = kv_cache.plan_kv_cache(
        kv_cache.bytes_per_token(checkpoint(repo).spec, parts),
        Platform.CUDA,
        available_bytes=available_gib * GIB,
        max_model_len=max_model_len,
    )
    assert (planned.num_blocks, planned.bytes_per_block, planned.tokens) == (num_blocks, bytes_per_block, tokens)


def test_the_longest_fit_is_vllms_max_model_len_auto(checkpoint) -> None:
    per_token = kv_cache.bytes_per_token(checkpoint(LLAMA_8B).spec, 1)
    longest = kv_cache.longest_fit(per_token, Platform.CUDA, available_bytes=4 * GIB, concurrency=1)
    assert longest == 32752


def test_on_a_cpu_a_block_has_128_tokens() -> None:
    """Real CPU engine: 4 layers, 2 KV heads of 32, 64 MiB → 512 blocks, 65,536 tokens at max_model_len 2,048."""
    per_token = 2 * 4 * 2 * 32 * 2
    planned = kv_cache.plan_kv_cache(per_token, Platform.CPU, available_bytes=67108864, max_model_len=2048)
    assert (planned.block_size, planned.num_blocks, planned.tokens) == (128, 512, 65536)


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_what_is_needed_is_admitted_and_one_block_less_is_not(platform: Platform, concurrency: int) -> None:
    """vLLM admits a request when (available - one block) >= the blocks it needs."""
    needed = kv_cache.bytes_needed(1000, platform, max_model_len=5000, concurrency=concurrency)
    block = kv_cache.BLOCK_SIZE[platform] * 1000
    assert kv_cache.most_requests(1000, platform, available_bytes=needed, max_model_len=5000) == concurrency
    assert kv_cache.most_requests(1000, platform, available_bytes=needed - block, max_model_len=5000) < concurrency
    assert kv_cache.longest_fit(1000, platform, available_bytes=needed, concurrency=concurrency) >= 5000


# Peaks that vLLM logged on an H100 at its default of 1,024 sequences (llm-d planner, empirical-vllm-memory-results).
@pytest.mark.parametrize(
    "hidden_size, vocab_size, activation_gib", [(1024, 151936, 5.56), (4096, 128256, 4.76), (2880, 201088, 7.38)]
)
def test_the_reserve_covers_the_peaks_that_were_published(checkpoint, hidden_size, vocab_size, activation_gib) -> None:
    from dataclasses import replace

    spec = replace(checkpoint(QWEN_8B).spec, hidden_size=hidden_size, vocab_size=vocab_size)
    batch = memory.default_batch(Platform.CUDA, "NVIDIA H100 80GB HBM3", 80 * GIB)
    reserve = memory.reserve(spec, batch, Platform.CUDA, 1).bytes / GIB
    assert activation_gib < reserve < activation_gib + 2


@pytest.mark.parametrize(
    "platform, name, gib, seqs, tokens",
    [
        (Platform.CUDA, "NVIDIA H100 80GB HBM3", 79.6, 1024, 8192),
        (Platform.CUDA, "NVIDIA B200", 178, 1024, 16384),
        (Platform.CUDA, "NVIDIA A100-SXM4-80GB", 80, 256, 2048),
        (Platform.CUDA, "NVIDIA L4", 22.5, 256, 2048),
        (Platform.CPU, None, 64, 128, 2048),
    ],
)
def test_batch_defaults_follow_the_device(platform, name, gib, seqs, tokens) -> None:
    batch = memory.default_batch(platform, name, int(gib * GIB))
    assert (batch.max_num_seqs, batch.max_num_batched_tokens) == (seqs, tokens)
