import pytest

from selfhost.catalog.config import parse_config
from selfhost.errors import BlockedError

QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
    "sliding_window": None,
    "use_sliding_window": False,
    "max_window_layers": 36,
    "layer_types": ["full_attention"] * 36,
    "rope_scaling": None,
}


def test_a_plain_decoder_is_read() -> None:
    spec = parse_config(QWEN3_8B, label="Qwen/Qwen3-8B")
    assert (spec.num_hidden_layers, spec.num_key_value_heads, spec.head_dim) == (36, 8, 128)
    assert (spec.max_model_len, spec.dtype, spec.quantization) == (40960, "bfloat16", None)


@pytest.mark.parametrize(
    "changes, field, value",
    [
        ({"head_dim": None}, "head_dim", 128),
        ({"num_key_value_heads": None}, "num_key_value_heads", 32),
        ({"torch_dtype": "float16"}, "dtype", "float16"),
        ({"torch_dtype": "float32"}, "dtype", "bfloat16"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "max_model_len", 163840),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "max_model_len", 81920),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "max_model_len", 40960),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "max_model_len", 40960),
        (
            {"rope_scaling": {"rope_type": "longrope"}, "original_max_position_embeddings": 4096},
            "max_model_len",
            4096,
        ),
        ({"partial_rotary_factor": 0.5}, "rotary_dim", 64),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization", "fp8"),
        ({"sliding_window": 4096, "use_sliding_window": False}, "max_model_len", 40960),
    ],
)
def test_what_configs_say_in_their_several_ways(changes: dict, field: str, value: object) -> None:
    assert getattr(parse_config({**QWEN3_8B, **changes}, label="x"), field) == value


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"architectures": ["FooForCausalLM"]}, "the architecture FooForCausalLM is not known"),
        ({"architectures": []}, "names no architecture"),
        ({"sliding_window": 4096, "use_sliding_window": True}, "a sliding window of 4096 tokens"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ({"kv_lora_rank": 512}, "multi-head latent attention"),
        ({"attention_chunk_size": 8192}, "chunked attention"),
        ({"vocab_size": None}, "no usable 'vocab_size' (found None)"),
        ({"num_hidden_layers": 2**31 - 1}, "no usable 'num_hidden_layers' (found 2147483647)"),
        ({"max_position_embeddings": 10**10}, "no usable 'max_position_embeddings' (found 10000000000)"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e6}}, "no usable 'factor' (found 1000000.0)"),
        ({"quantization_config": "x"}, "no usable 'quantization_config' (found 'x')"),
        ({"rope_parameters": 5}, "no usable 'rope_parameters' (found 5)"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "y"}}, "no usable 'factor' (found 'y')"),
        ({"layer_types": 5}, "no usable 'layer_types' (found 5)"),
        ({"num_hidden_layers": "many"}, "no usable 'num_hidden_layers' (found 'many')"),
    ],
)
def test_what_is_not_known_is_refused_and_not_guessed(changes: dict, words: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_config({**QWEN3_8B, **changes}, label="org/model")
    assert caught.value.message.startswith("org/model: ")
    assert words in caught.value.message
    assert caught.value.hint
