"""Checkpoints as planning sees them: the tensors of real repositories, written out from their architectures."""

from collections.abc import Callable, Iterator

import pytest

from selfhost.catalog.config import parse_config
from selfhost.catalog.model import Checkpoint, CheckpointKind, CheckpointRef, Tensor

COMMIT = "b968826d9c46dd6066d109eabc6255188de91218"

# Facts of the repositories' config.json, in its own words.
CONFIGS = {
    "Qwen/Qwen3-8B": {
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "intermediate_size": 12288,
        "max_position_embeddings": 40960,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "Qwen/Qwen3-32B": {
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": 5120,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "intermediate_size": 25600,
        "max_position_embeddings": 40960,
    },
    "Qwen/Qwen3-30B-A3B": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "max_position_embeddings": 40960,
    },
    "mistralai/Mixtral-8x7B-v0.1": {
        "architectures": ["MixtralForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "intermediate_size": 14336,
        "num_local_experts": 8,
        "max_position_embeddings": 32768,
        "sliding_window": None,
    },
    "meta-llama/Meta-Llama-3.1-8B": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    },
    "meta-llama/Meta-Llama-3.1-70B": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "intermediate_size": 28672,
        "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    },
}


def tensors_of(config: dict) -> Iterator[Tensor]:
    """Every tensor of such a repository, as its safetensors headers list them."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    kv_dim = config["num_key_value_heads"] * head_dim

    def tensor(name: str, *shape: int) -> Tensor:
        return Tensor(name=name, dtype="BF16", shape=shape)

    yield tensor("model.embed_tokens.weight", config["vocab_size"], hidden)
    yield tensor("lm_head.weight", config["vocab_size"], hidden)
    yield tensor("model.norm.weight", hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield tensor(f"{at}.input_layernorm.weight", hidden)
        yield tensor(f"{at}.post_attention_layernorm.weight", hidden)
        yield tensor(f"{at}.self_attn.q_proj.weight", heads * head_dim, hidden)
        yield tensor(f"{at}.self_attn.k_proj.weight", kv_dim, hidden)
        yield tensor(f"{at}.self_attn.v_proj.weight", kv_dim, hidden)
        yield tensor(f"{at}.self_attn.o_proj.weight", hidden, heads * head_dim)
        if config["architectures"][0].startswith("Qwen3"):
            yield tensor(f"{at}.self_attn.q_norm.weight", head_dim)
            yield tensor(f"{at}.self_attn.k_norm.weight", head_dim)
        yield from _feed_forward(config, at, hidden)


def _feed_forward(config: dict, at: str, hidden: int) -> Iterator[Tensor]:
    def tensor(name: str, *shape: int) -> Tensor:
        return Tensor(name=f"{at}.{name}", dtype="BF16", shape=shape)

    if experts := config.get("num_experts"):
        inner = config["moe_intermediate_size"]
        yield tensor("mlp.gate.weight", experts, hidden)
        for expert in range(experts):
            yield tensor(f"mlp.experts.{expert}.gate_proj.weight", inner, hidden)
            yield tensor(f"mlp.experts.{expert}.up_proj.weight", inner, hidden)
            yield tensor(f"mlp.experts.{expert}.down_proj.weight", hidden, inner)
    elif experts := config.get("num_local_experts"):
        inner = config["intermediate_size"]
        yield tensor("block_sparse_moe.gate.weight", experts, hidden)
        for expert in range(experts):
            yield tensor(f"block_sparse_moe.experts.{expert}.w1.weight", inner, hidden)
            yield tensor(f"block_sparse_moe.experts.{expert}.w2.weight", hidden, inner)
            yield tensor(f"block_sparse_moe.experts.{expert}.w3.weight", inner, hidden)
    else:
        inner = config["intermediate_size"]
        yield tensor("mlp.gate_proj.weight", inner, hidden)
        yield tensor("mlp.up_proj.weight", inner, hidden)
        yield tensor("mlp.down_proj.weight", hidden, inner)


@pytest.fixture(scope="session")
def checkpoint() -> Callable[[str], Checkpoint]:
    """`checkpoint("Qwen/Qwen3-8B")`."""

    def make(repo: str) -> Checkpoint:
        tensors = tuple(tensors_of(CONFIGS[repo]))
        total = sum(tensor.bytes for tensor in tensors)
        return Checkpoint(
            ref=CheckpointRef(kind=CheckpointKind.HUB, location=repo, revision=COMMIT, total_bytes=total),
            spec=parse_config(CONFIGS[repo], label=repo),
            tensors=tensors,
        )

    return make
