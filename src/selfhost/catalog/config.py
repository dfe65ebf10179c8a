"""Hugging Face's config.json → ModelSpec, for decoders whose every layer is plain attention.

Pure. A layer kind that the sizing rules do not know is refused with a sentence, never guessed.
"""

from collections.abc import Mapping
from typing import Any

from selfhost.catalog.model import ModelSpec
from selfhost.errors import BlockedError

# Architectures whose layers are plain attention unless their config says otherwise. Checked against vLLM 0.32's own
# KV cache specs (`model_executor/layers/attention/attention.py:get_kv_cache_spec` answers FullAttentionSpec).
PLAIN_ATTENTION = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
)

# Keys that, when set, make some layer something else.
OTHER_LAYER_KINDS = {
    "kv_lora_rank": "multi-head latent attention",
    "index_topk": "sparse attention",
    "attention_chunk_size": "chunked attention",
    "linear_num_value_heads": "linear attention",
    "mamba_num_heads": "Mamba layers",
    "ssm_state_size": "Mamba layers",
    "num_kv_shared_layers": "layers that share their KV cache",
}

# RoPE kinds whose `max_position_embeddings` is already scaled (vLLM `config/model.py:_get_and_verify_max_len`).
ROPE_ALREADY_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")

NEXT_STEP = "selfhost cannot size it yet, and does not guess"


def parse_config(config: Mapping[str, Any], *, label: str) -> ModelSpec:
    """Read the architecture out of a config.json; `label` names the model in errors.

    Raises `BlockedError` for an architecture or a layer kind that the sizing rules do not know, and for a config
    that lacks what every decoder has.
    """
    architecture = _architecture(config, label)
    _refuse_other_layer_kinds(config, label)
    hidden_size = _number(config, "hidden_size", label)
    num_attention_heads = _number(config, "num_attention_heads", label)
    head_dim = int(config.get("head_dim") or hidden_size // num_attention_heads)
    max_position_embeddings = _number(config, "max_position_embeddings", label)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    quantization = config.get("quantization_config") or {}
    return ModelSpec(
        architecture=architecture,
        num_hidden_layers=_number(config, "num_hidden_layers", label),
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=int(config.get("num_key_value_heads") or num_attention_heads),
        head_dim=head_dim,
        vocab_size=_number(config, "vocab_size", label),
        max_model_len=_max_model_len(rope, max_position_embeddings, config),
        dtype=_dtype(config),
        rotary_dim=int(head_dim * (rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)),
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        quantization=quantization.get("quant_method"),
    )


def _architecture(config: Mapping[str, Any], label: str) -> str:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise BlockedError(
            f"{label}: its config.json names no architecture",
            hint="is this a model folder in the Hugging Face layout?",
        )
    architecture = str(architectures[0])
    if architecture not in PLAIN_ATTENTION:
        raise BlockedError(
            f"{label}: the architecture {architecture} is not known; {NEXT_STEP}",
            hint=f"known today: {', '.join(PLAIN_ATTENTION)}",
        )
    return architecture


def _refuse_other_layer_kinds(config: Mapping[str, Any], label: str) -> None:
    found = [kind for key, kind in OTHER_LAYER_KINDS.items() if config.get(key)]
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        found.append(f"a sliding window of {config['sliding_window']} tokens")
    found += sorted({str(kind) for kind in config.get("layer_types") or () if kind != "full_attention"})
    if found:
        raise BlockedError(
            f"{label}: its layers use {' and '.join(dict.fromkeys(found))}; {NEXT_STEP}",
            hint="choose a model with plain attention in every layer",
        )


def _max_model_len(rope: Mapping[str, Any], max_position_embeddings: int, config: Mapping[str, Any]) -> int:
    """The length vLLM derives when none is asked for (`config/model.py:_get_and_verify_max_len`)."""
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type == "longrope":
        return int(config.get("original_max_position_embeddings") or max_position_embeddings)
    factor = 1.0 if rope_type in ROPE_ALREADY_SCALED else float(rope.get("factor") or 1.0)
    return int(max_position_embeddings * factor)


def _dtype(config: Mapping[str, Any]) -> str:
    """The dtype vLLM computes in with `--dtype auto`: a float32 checkpoint is served in 16 bits (`config/model.py`)."""
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch.")
    return "float16" if dtype == "float16" else "bfloat16"


def _number(config: Mapping[str, Any], key: str, label: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise BlockedError(
            f"{label}: its config.json has no usable '{key}' (found {value!r})",
            hint="is this a model folder in the Hugging Face layout?",
        )
    return value
