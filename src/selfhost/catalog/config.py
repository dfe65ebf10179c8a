"""Hugging Face's config.json → ModelSpec, for decoders whose every layer is plain attention.

Pure. A layer kind that the sizing rules do not know is refused with a sentence, never guessed; so is a value that no
decoder can have, for the file comes from strangers.
"""

from collections.abc import Mapping
from typing import Any

from selfhost.catalog import json_text
from selfhost.catalog.model import ModelSpec
from selfhost.errors import BlockedError, SelfhostError
from selfhost.units import MIB

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

LARGEST_FILE_BYTES = 10 * MIB  # of a config.json
# What is more is no size of anything. The largest models have 126 layers, 128 heads, rows of 16,384 and 10M tokens.
LARGEST_NUMBERS = {
    "num_hidden_layers": 10_000,
    "num_attention_heads": 10_000,
    "num_key_value_heads": 10_000,
    "head_dim": 100_000,
    "hidden_size": 1_000_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 1_000_000_000,
    "original_max_position_embeddings": 1_000_000_000,
}
LARGEST_FACTOR = 1e6
SHOWN_LENGTH = 40  # characters of a strange value


def read_config(content: bytes, *, name: str) -> dict[str, Any]:
    """The object in a config.json; `name` names the file in errors.

    Raises `SelfhostError` for what is not UTF-8, not JSON, or not an object.
    """
    try:
        config = json_text.parse(content)
    except ValueError as error:
        raise SelfhostError(f"{name} is damaged: {error}", hint="download it again") from error
    if not isinstance(config, dict):
        raise SelfhostError(f"{name} is not a JSON object", hint="download it again")
    return config


def parse_config(config: Mapping[str, Any], *, label: str) -> ModelSpec:
    """Read the architecture out of a config.json; `label` names the model in errors.

    Raises `BlockedError` for an architecture or a layer kind that the sizing rules do not know, and for a config
    that lacks what every decoder has.
    """
    architecture = _architecture(config, label)
    _refuse_other_layer_kinds(config, label)
    hidden_size = _number(config, "hidden_size", label)
    num_attention_heads = _number(config, "num_attention_heads", label)
    head_dim = _number(config, "head_dim", label, default=hidden_size // num_attention_heads)
    max_position_embeddings = _number(config, "max_position_embeddings", label)
    rope = _section(config, "rope_parameters", label) or _section(config, "rope_scaling", label)
    rotary_factor = _factor(config, "partial_rotary_factor", label, largest=1.0)
    quantization = _section(config, "quantization_config", label)
    return ModelSpec(
        architecture=architecture,
        num_hidden_layers=_number(config, "num_hidden_layers", label),
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=_number(config, "num_key_value_heads", label, default=num_attention_heads),
        head_dim=head_dim,
        vocab_size=_number(config, "vocab_size", label),
        max_model_len=_max_model_len(rope, max_position_embeddings, config, label),
        dtype=_dtype(config, label),
        rotary_dim=int(head_dim * _factor(rope, "partial_rotary_factor", label, default=rotary_factor, largest=1.0)),
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=_flag(config, "tie_word_embeddings", label),
        quantization=_text(quantization, "quant_method", label),
    )


def _architecture(config: Mapping[str, Any], label: str) -> str:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise BlockedError(
            f"{label}: its config.json names no architecture",
            hint="is this a model folder in the Hugging Face layout?",
        )
    architecture = str(architectures[0])
    if not architecture.isidentifier():
        raise _unusable("architectures", architectures[0], label)
    if architecture not in PLAIN_ATTENTION:
        raise BlockedError(
            f"{label}: the architecture {architecture} is not known; {NEXT_STEP}",
            hint=f"known today: {', '.join(PLAIN_ATTENTION)}",
        )
    return architecture


def _refuse_other_layer_kinds(config: Mapping[str, Any], label: str) -> None:
    found = [kind for key, kind in OTHER_LAYER_KINDS.items() if config.get(key)]
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        found.append(f"a sliding window of {_shown(config['sliding_window'])} tokens")
    layer_types = config.get("layer_types") or []
    if not isinstance(layer_types, list) or not all(isinstance(kind, str) for kind in layer_types):
        raise _unusable("layer_types", layer_types, label)
    found += sorted({kind if kind.isidentifier() else _shown(kind) for kind in layer_types} - {"full_attention"})
    if found:
        raise BlockedError(
            f"{label}: its layers use {' and '.join(dict.fromkeys(found))}; {NEXT_STEP}",
            hint="choose a model with plain attention in every layer",
        )


def _max_model_len(rope: Mapping[str, Any], max_position_embeddings: int, config: Mapping[str, Any], label: str) -> int:
    """The length vLLM derives when none is asked for (`config/model.py:_get_and_verify_max_len`)."""
    rope_type = _text(rope, "rope_type", label) or _text(rope, "type", label) or "default"
    if rope_type == "longrope":
        return _number(config, "original_max_position_embeddings", label, default=max_position_embeddings)
    factor = 1.0 if rope_type in ROPE_ALREADY_SCALED else _factor(rope, "factor", label)
    longest = max(1, int(max_position_embeddings * factor))
    if longest > LARGEST_NUMBERS["max_position_embeddings"]:
        raise _unusable("factor", factor, label)
    return longest


def _dtype(config: Mapping[str, Any], label: str) -> str:
    """The dtype vLLM computes in with `--dtype auto`: a float32 checkpoint is served in 16 bits (`config/model.py`)."""
    dtype = _text(config, "dtype", label) or _text(config, "torch_dtype", label) or "bfloat16"
    return "float16" if dtype.removeprefix("torch.") == "float16" else "bfloat16"


def _number(config: Mapping[str, Any], key: str, label: str, *, default: int | None = None) -> int:
    """A whole number; null and absent are `default`."""
    value = config.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_NUMBERS[key]:
        raise _unusable(key, value, label)
    return value


def _factor(
    config: Mapping[str, Any], key: str, label: str, *, default: float = 1.0, largest: float = LARGEST_FACTOR
) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:  # NaN is neither
        raise _unusable(key, value, label)
    return float(value)


def _section(config: Mapping[str, Any], key: str, label: str) -> Mapping[str, Any]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unusable(key, value, label)
    return value


def _text(config: Mapping[str, Any], key: str, label: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise _unusable(key, value, label)
    return value


def _flag(config: Mapping[str, Any], key: str, label: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise _unusable(key, value, label)
    return bool(value)


def _unusable(key: str, value: object, label: str) -> BlockedError:
    return BlockedError(
        f"{label}: its config.json has no usable '{key}' (found {_shown(value)})",
        hint="is this a model folder in the Hugging Face layout?",
    )


def _shown(value: object) -> str:
    """A value in a sentence: short, and without the control characters that it may hold."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    text = ascii(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."
