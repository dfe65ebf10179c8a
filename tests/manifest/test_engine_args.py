from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from selfhost.manifest.engine_args import RESERVED
from selfhost.manifest.schema import Model

OPTIONS = (Path(__file__).parent / "data" / "vllm-0.32.0-options.txt").read_text().split()
GONE = {"disable-log-requests", "version"}  # options of older versions, and of `vllm` itself


def engine_args(args: dict[str, Any]) -> Any:
    return Model(name="chat", engine_args=args).engine_args


def refusal(args: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        engine_args(args)
    return "; ".join(error["msg"] for error in raised.value.errors())


@pytest.mark.parametrize(
    "written, option, value",
    [
        ("max-num-seqs", "max-num-seqs", 64),
        ("max_num_seqs", "max-num-seqs", 64),
        ("enable-prefix-caching", "enable-prefix-caching", True),
        ("no-enable-prefix-caching", "no-enable-prefix-caching", True),
        ("reasoning_parser", "reasoning-parser", "qwen3"),
        ("all2all-backend", "all2all-backend", "pplx"),
        ("max-logprobs", "max-logprobs", -1),
        ("watermark", "watermark", 0.01),
        ("cudagraph-capture-sizes", "cudagraph-capture-sizes", (1, 2, 4)),
        ("compilation_config.cudagraph_mode", "compilation-config.cudagraph_mode", "PIECEWISE"),
        ("speculative-config", "speculative-config", '{"method": "mtp"}'),
    ],
)
def test_options_become_kebab_case_and_values_stay_as_they_are(written: str, option: str, value: object) -> None:
    assert engine_args({written: value}) == {option: value}


@pytest.mark.parametrize(
    "args, sentence",
    [
        ({"host": "0.0.0.0"}, "is not for `engine_args`: use `gateway.listen`"),
        ({"max_model_len": 1}, "is not for `engine_args`: use `max_model_len`"),
        ({"device-memory-utilization": 1}, "is not for `engine_args`: use `gpu_memory_utilization`"),
        ({"data-parallel-size": 2}, "is not for `engine_args`: use `replicas`"),
        (
            {"data-parallel-rpc-port": 2},
            "is not for `engine_args`: the plan places the engine on its GPUs",
        ),
        (
            {"trust_remote_code": True},
            "is not for `engine_args`: it would run code that is not the engine's",
        ),
        (
            {"no-disable-fastapi-docs": True},
            "is not for `engine_args`: engines listen on a private unix socket behind the gateway",
        ),
        (
            {"kv-transfer-config.kv_connector": "X"},
            "is not for `engine_args`: it would open network ports of the engine",
        ),
        ({"hos": "x"}, "is not for `engine_args`: short for `host`: use `gateway.listen`"),
        (
            {"trust-remote": True},
            "is not for `engine_args`: short for `trust-remote-code`: it would run code that is not the engine's",
        ),
        ({"--seed": 1}, "should be written without the dashes in front"),
        ({"-O3": True}, "should be written without the dashes in front"),
        ({"seed 1": 1}, "should be the name of an engine option, such as max-num-seqs"),
        ({"seed=1; rm": 1}, "should be the name of an engine option, such as max-num-seqs"),
        ({"": 1}, "should be the name of an engine option, such as max-num-seqs"),
        ({"seed": None}, "should be one value or a list of values"),
        ({"seed": {"a": 1}}, "should be one value or a list of values"),
        ({"seed": (1, (2,))}, "has an entry that is not one value"),
        ({"seed": float("nan")}, "is not a finite number"),
        ({"dtype": "--host"}, "begins with '-': the engine would take it for an option"),
        (
            {"ignore-patterns": ("a", "--host")},
            "has an entry that begins with '-': the engine would take it for an option",
        ),
        ({"chat-template": "x" * 100_001}, "has more than 100000 bytes: put it into a file"),
        ({"max_num_seqs": 1, "max-num-seqs": 2}, "is the same option as `max_num_seqs`"),
    ],
)
def test_what_is_refused_and_why(args: dict[str, Any], sentence: str) -> None:
    assert refusal(args) == sentence


@pytest.mark.parametrize("option", RESERVED)
def test_reserved_options_are_options_of_the_engine(option: str) -> None:
    assert option in OPTIONS or option in GONE or any(known.startswith(option.rstrip("*")) for known in OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_reserved_by_its_own_name_or_free(option: str) -> None:
    free = option not in RESERVED and not option.startswith(("ssl-", "data-parallel-", "dp-supervisor-"))
    if free:
        assert engine_args({option: True}) == {option: True}
    else:
        assert "short for" not in refusal({option: True})
