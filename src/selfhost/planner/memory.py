"""What an engine needs besides its KV cache: weights per GPU, and a reserve for what no config tells. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil

from selfhost.catalog.model import ModelSpec, Tensor
from selfhost.planner.plan import Basis, Figure, Platform
from selfhost.units import GIB, MIB

VOCABULARY_PADDING = 64  # rows (`layers/vocab_parallel_embedding.py:DEFAULT_VOCAB_PADDING_SIZE`)
ROTARY_DTYPE_BYTES = 2

VOCABULARY = re.compile(r"(^|\.)(embed_tokens|lm_head)\.weight$")
KEY_VALUE = re.compile(r"\.(k|v)_proj\.")
SHARDED = re.compile(r"\.(q_proj|gate_proj|up_proj|w1|w3)\.|\.(o_proj|down_proj|w2)\.(?!bias)")

# Bytes that a warm engine takes beside weights and KV cache. `estimated`: the peak of the sampler pass dominates, one
# row of float32 logits per sequence and its sorted copies; nine copies reproduce the published peaks of Qwen3-0.6B,
# Llama-3.1-8B and gpt-oss-20b at 1,024 sequences (llm-d planner, empirical-vllm-memory-results) within 10 %.
LOGIT_COPIES = 9
LOGIT_BYTES = 4
HIDDEN_COPIES = 12  # of `max_num_batched_tokens` × hidden_size in 16 bits during one forward pass
CUDA_GRAPHS_BYTES = 512 * MIB
NON_TORCH_BYTES = 256 * MIB
NCCL_BYTES = 512 * MIB

# Resident memory of an engine's three processes before any weight: 1.9 GiB measured with vLLM 0.32 on CPU.
PROCESSES_BYTES = 2 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The engine's batch limits, which size its activations."""

    max_num_seqs: int
    max_num_batched_tokens: int


def default_batch(platform: Platform, device_name: str | None, total_bytes: int) -> Batch:
    """The API server's defaults on this device (vLLM 0.32 `engine/arg_utils.py:get_batch_defaults`)."""
    if platform is Platform.CPU:
        return Batch(max_num_seqs=128, max_num_batched_tokens=2048)
    if total_bytes >= 160 * GIB:
        return Batch(max_num_seqs=1024, max_num_batched_tokens=16384)
    if total_bytes >= 70 * GIB and "a100" not in (device_name or "").lower():
        return Batch(max_num_seqs=1024, max_num_batched_tokens=8192)
    return Batch(max_num_seqs=256, max_num_batched_tokens=2048)


def weights_per_gpu(tensors: Iterable[Tensor], spec: ModelSpec, tensor_parallel_size: int) -> Figure:
    """Parameters and buffers on each GPU: every tensor times its sharding rule, plus the rotary cache.

    Exact for unquantized checkpoints of plain decoders (held against vLLM's own parameter bytes in the tests).
    """
    counted = [tensor for tensor in tensors if not _is_skipped(tensor, spec)]
    parameters = sum(_bytes_per_gpu(tensor, spec, tensor_parallel_size) for tensor in counted)
    rotary_cache = spec.max_position_embeddings * spec.rotary_dim * ROTARY_DTYPE_BYTES
    exact = spec.quantization is None
    split = f" over {tensor_parallel_size} GPUs" if tensor_parallel_size > 1 else ""
    return Figure(
        bytes=parameters + rotary_cache,
        basis=Basis.DERIVED if exact else Basis.ESTIMATED,
        note=f"{len(counted)} tensors of its safetensors headers{split}",
    )


def reserve(
    spec: ModelSpec, batch: Batch, platform: Platform, tensor_parallel_size: int, *, unified_memory: bool = False
) -> Figure:
    """Peak activations, CUDA graphs and the engine's own memory; on unified memory its processes take from it too."""
    activations = (
        LOGIT_COPIES * batch.max_num_seqs * spec.vocab_size * LOGIT_BYTES
        + HIDDEN_COPIES * batch.max_num_batched_tokens * spec.hidden_size * ROTARY_DTYPE_BYTES
    )
    if platform is Platform.CPU:
        return Figure(
            bytes=PROCESSES_BYTES + activations,
            basis=Basis.ESTIMATED,
            note="the engine's three processes and their activations",
        )
    nccl = NCCL_BYTES if tensor_parallel_size > 1 else 0
    processes = PROCESSES_BYTES if unified_memory else 0
    return Figure(
        bytes=activations + CUDA_GRAPHS_BYTES + NON_TORCH_BYTES + nccl + processes,
        basis=Basis.ESTIMATED,
        note=f"activations of {batch.max_num_seqs} sequences, CUDA graphs{', its processes' if processes else ''}",
    )


def _is_skipped(tensor: Tensor, spec: ModelSpec) -> bool:
    """What the engine does not load: a tied head, and buffers that old exports carried along."""
    return (spec.tie_word_embeddings and tensor.name.endswith("lm_head.weight")) or "rotary_emb.inv_freq" in tensor.name


def _bytes_per_gpu(tensor: Tensor, spec: ModelSpec, tensor_parallel_size: int) -> int:
    if VOCABULARY.search(tensor.name) and tensor.shape:
        rows = ceil(tensor.shape[0] / VOCABULARY_PADDING) * VOCABULARY_PADDING
        tensor = replace(tensor, shape=(rows, *tensor.shape[1:]))
        parts = tensor_parallel_size
    elif KEY_VALUE.search(tensor.name):
        parts = min(tensor_parallel_size, spec.num_key_value_heads)
    elif SHARDED.search(tensor.name):
        parts = tensor_parallel_size
    else:
        parts = 1  # norms, routers and row-parallel biases stand on every GPU
    return _loaded_bytes(tensor, spec) // parts


def _loaded_bytes(tensor: Tensor, spec: ModelSpec) -> int:
    """An unquantized float32 checkpoint is loaded in 16 bits (vLLM `config/model.py:_resolve_auto_dtype`)."""
    if tensor.dtype == "F32" and spec.quantization is None:
        return tensor.bytes // 2
    return tensor.bytes
