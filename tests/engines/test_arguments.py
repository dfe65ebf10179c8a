"""On the whole parser of vLLM 0.32.0, as dump_arguments.py wrote it (tests/engine proves that it still is this one)."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from selfhost.engines import arguments
from selfhost.engines.arguments import EngineArguments
from selfhost.errors import SelfhostError

DUMP = Path(__file__).parents[1] / "data/vllm-0.32.0-arguments.json"


@cache
def vllm() -> EngineArguments:
    return arguments.parse(json.loads(DUMP.read_bytes()))


@pytest.mark.parametrize(
    ("engine_args", "argv"),
    [
        ({}, ""),
        ({"max_model_len": 32768}, "--max-model-len 32768"),
        ({"max-model-len": "32k"}, "--max-model-len 32k"),
        ({"max_model_len": "auto"}, "--max-model-len auto"),
        ({"max_num_seqs": "16"}, "--max-num-seqs 16"),
        ({"gpu_memory_utilization": 0.9}, "--gpu-memory-utilization 0.9"),
        ({"gpu_memory_utilization": 1}, "--gpu-memory-utilization 1"),
        ({"device_memory_utilization": 0.5}, "--gpu-memory-utilization 0.5"),  # another name of the same
        ({"seed": -1}, "--seed=-1"),
        ({"dtype": "bfloat16"}, "--dtype bfloat16"),
        ({"max_lora_rank": 16}, "--max-lora-rank 16"),
        ({"moe_backend": "deep-gemm"}, "--moe-backend deep-gemm"),  # vLLM folds it itself
        ({"enforce_eager": True}, "--enforce-eager"),
        ({"enforce_eager": False}, "--no-enforce-eager"),
        ({"headless": True}, "--headless"),
        ({"headless": False}, ""),
        ({"max_log_len": None, "quantization": None}, ""),
        ({"kv_cache_memory_bytes": "None"}, "--kv-cache-memory-bytes None"),
        ({"served_model_name": ["a", "b"]}, "--served-model-name a b"),
        ({"served_model_name": "a"}, "--served-model-name a"),
        ({"cudagraph_capture_sizes": [1, 2, 4]}, "--cudagraph-capture-sizes 1 2 4"),
        ({"middleware": ["x.y", "z"]}, "--middleware x.y --middleware z"),
        ({"lora_modules": [{"name": "a", "path": "/a"}]}, '--lora-modules {"name":"a","path":"/a"}'),
        ({"compilation_config": {"mode": 3}}, '--compilation-config {"mode":3}'),
        ({"compilation_config": '{"mode": 3}'}, '--compilation-config {"mode": 3}'),
        ({"allowed_origins": ["*"]}, '--allowed-origins ["*"]'),
        ({"hf_overrides": {"a": {"b": None}}}, '--hf-overrides {"a":{"b":null}}'),
        ({"hf_overrides": "some.function"}, "--hf-overrides some.function"),
        ({"hf_token": True}, "--hf-token"),
        (
            {"tool_call_parser": "hermes", "enable_auto_tool_choice": True},
            "--tool-call-parser hermes --enable-auto-tool-choice",
        ),
        (
            {"tool_call_parser": "mine", "tool_parser_plugin": "/p.py"},
            "--tool-call-parser mine --tool-parser-plugin /p.py",
        ),
        ({"tensor_parallel_size": 2, "port": 1}, "--tensor-parallel-size 2 --port 1"),
    ],
)
def test_what_is_right_becomes_words_that_are_right(engine_args: dict[str, Any], argv: str) -> None:
    assert arguments.validate(vllm(), engine_args) == ()
    words = arguments.to_argv(vllm(), engine_args)
    assert " ".join(words) == argv
    assert arguments.validate_argv(vllm(), words) == ()


@pytest.mark.parametrize(
    ("engine_args", "problem"),
    [
        ({"max_modle_len": 1}, "max_modle_len: no such option; did you mean max_model_len?"),
        ({"nothing_like_it_at_all": 1}, "nothing_like_it_at_all: no such option"),
        ({"max_model_len": 1.5}, "max_model_len: takes a whole number or auto, not '1.5'"),
        ({"max_model_len": "1.5K"}, "max_model_len: takes a whole number or auto, not '1.5K'"),
        ({"max_num_seqs": "many"}, "max_num_seqs: takes a whole number, not 'many'"),
        ({"max_num_seqs": "2k"}, "max_num_seqs: takes a whole number, not '2k'"),
        ({"max_num_seqs": True}, "max_num_seqs: takes a value, not true or false"),
        ({"max_num_seqs": [1]}, "max_num_seqs: takes one value, not '[1]'"),
        ({"gpu_memory_utilization": "90%"}, "gpu_memory_utilization: takes a number, not '90%'"),
        ({"kv_cache_memory_bytes": "big"}, "kv_cache_memory_bytes: takes a whole number or None, not 'big'"),
        (
            {"dtype": "bf16"},
            "dtype: 'bf16' is not one of auto, bfloat16, float, float16, float32, half; did you mean bfloat16?",
        ),
        (
            {"max_lora_rank": 17},
            "max_lora_rank: '17' is not one of 1, 8, 16, 32, 64, 128, 256, 320, 512",
        ),
        ({"enforce_eager": "yes"}, "enforce_eager: is a switch, true or false, not 'yes'"),
        ({"no_enforce_eager": True}, "no_enforce_eager: write enforce_eager: true or false"),
        ({"headless": 1}, "headless: is a switch, true or false, not '1'"),
        ({"served_model_name": []}, "served_model_name: needs a value"),
        ({"served_model_name": ["a", "-b"]}, "served_model_name: takes values that do not begin with '-'"),
        ({"served_model_name": ["a", None]}, "served_model_name: takes a list of words and numbers"),
        ({"cudagraph_capture_sizes": [1, "x"]}, "cudagraph_capture_sizes: takes a whole number, not 'x'"),
        ({"compilation_config": 3}, "compilation_config: takes a JSON object, not '3'"),
        ({"compilation_config": "{mode: 3}"}, "compilation_config: takes a JSON object, not '{mode: 3}'"),
        ({"compilation_config.mode": 3}, None),
        ({"max_num_seqs.x": 3}, "max_num_seqs.x: has no members"),
        ({"xyzzyx.y": 3}, "xyzzyx.y: no such option"),
        ({"allowed_origins": "*"}, "allowed_origins: takes JSON, not '*'"),
        ({"chat_template": {"a": 1}}, None),  # a converter that takes every word takes this one too
    ],
)
def test_what_is_wrong_is_a_sentence(engine_args: dict[str, Any], problem: str | None) -> None:
    assert arguments.validate(vllm(), engine_args) == ((problem,) if problem else ())
    if problem:
        with pytest.raises(SelfhostError) as caught:
            arguments.to_argv(vllm(), engine_args)
        assert caught.value.message == problem


def test_an_unknown_tool_parser_is_named_with_the_nearest() -> None:
    (problem,) = arguments.validate(vllm(), {"tool_call_parser": "hermis"})
    assert problem.startswith("tool_call_parser: 'hermis' is not one of apertus, cohere_command3, ")
    assert problem.endswith(", xlam; did you mean hermes?")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(arguments.validate(vllm(), {"a": 1, "port": "x", "dtype": "bf16", "seed": 1})) == 3


@pytest.mark.parametrize(
    ("command", "problems"),
    [
        ("/models/demo --uds /run/e.sock --served-model-name chat a --enforce-eager --max-model-len 2048", []),
        ("/models/demo --max_model_len=2048 -tp 2 --no-enforce-eager --seed -1", []),
        ("/models/demo --compilation-config.mode 3 --compilation-config {}", []),
        ("/models/demo --hf-token --disable-access-log-for-endpoints /health,/metrics", []),
        ("/models/demo --max-model 2048", ["--max-model: no such option; did you mean --max-model-len?"]),
        ("/models/demo --port.x 1", ["--port.x: has no members"]),
        ("/models/demo --port", ["--port: needs a value"]),
        ("/models/demo --port --uds x", ["--port: needs a value"]),
        ("/models/demo --port eighty --dtype=bf", [
            "--port: takes a whole number, not 'eighty'",
            "--dtype: 'bf' is not one of auto, bfloat16, float, float16, float32, half",
        ]),
        ("/models/demo --enforce-eager=1", ["--enforce-eager: is a switch and takes no value, not '1'"]),
        ("/models/demo -x", ["-x: no such option"]),
    ],
)  # fmt: skip
def test_command_lines(command: str, problems: list[str]) -> None:
    assert list(arguments.validate_argv(vllm(), command.split())) == problems


def test_the_dump_says_what_options_are() -> None:
    option = vllm().find("max_model_len")
    assert option.help == "Model context length (prompt and output). If unspecified, will be"
    assert vllm().find("max_loras").default == 1
    assert len(vllm().options) == 316


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 2 instead of 1"):
        arguments.parse({"format_version": 2, "options": []})
