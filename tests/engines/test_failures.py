from pathlib import Path

import pytest

from selfhost.engines.failure_rule import Retry
from selfhost.engines.failures import explain, fatal_line
from selfhost.errors import ExitCode

LOGS = Path(__file__).parents[1] / "data/engine_logs"


# Real logs of vLLM 0.32.0: (log, code, retry, the sentence)
REAL = [
    ("engine-killed-while-serving", "engine_died", Retry.BACKOFF, "the engine's core process died"),
    (
        "fail-bad-flag",
        "usage",
        Retry.NEVER,
        "the engine refuses its command line: unrecognized arguments: --no-such-flag",
    ),
    (
        "fail-bad-tool-parser",
        "bad_option",
        Retry.NEVER,
        "the engine refuses an option: tool call parser: nope",
    ),
    (
        "fail-hub-down",
        "hub_offline",
        Retry.BACKOFF,
        "the engine looked for files on the Hub and could not reach it",
    ),
    ("fail-hub-gated-401", "hub_gated", Retry.NEVER, "the repository is gated"),
    (
        "fail-kv-too-small",
        "kv_too_small",
        Retry.NEVER,
        "one request of 2048 tokens needs 0.0 GiB of KV cache and 0.0 GiB are there",
    ),
    (
        "fail-maxlen-over-derived",
        "max_len_over_model",
        Retry.NEVER,
        "max_model_len 999999 is more than the model's own 2048",
    ),
    ("fail-missing-config", "config_missing", Retry.NEVER, "the model folder has no config.json"),
    ("fail-port-in-use", "address_in_use", Retry.NEVER, "its address is already in use"),
    (
        "fail-tp-does-not-divide",
        "tp_divides",
        Retry.NEVER,
        "tensor_parallel_size 3 does not divide the model's 4 attention heads",
    ),
    (
        "fail-truncated-safetensors",
        "weights_corrupt",
        Retry.NEVER,
        "a weights file is damaged: Error while deserializing header: incomplete metadata, file not fully covered",
    ),
]


@pytest.mark.parametrize("name, code, retry, cause", REAL, ids=[row[0] for row in REAL])
def test_real_logs_are_explained(name: str, code: str, retry: Retry, cause: str) -> None:
    failure = explain((LOGS / f"{name}.log").read_text(), 1)
    assert (failure.code, failure.retry, failure.cause) == (code, retry, cause)
    assert 1 <= len(failure.lines) <= 5
    assert not any("pid=" in line for line in failure.lines)


# Texts that were seen on real runs (engine facts, 5a) or stand in vLLM's sources (5b), where no whole log is at hand.
SEEN = [
    (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name': '/nonexistent/model'",
        "hub_bad_id",
        "the model folder does not exist, so its path was read as a repository id",
    ),
    (
        "Value error, Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: ...",
        "arch_unsupported",
        "this version of vLLM does not know the model's architecture ('FooForCausalLM')",
    ),
    (
        "The checkpoint you are trying to load has model type `foo9` but Transformers does not recognize this",
        "arch_unsupported",
        "this version of vLLM does not know the model's architecture (foo9)",
    ),
    (
        "RuntimeError: Cannot find any model weights with `/models/x`",
        "weights_missing",
        "there are no weights in /models/x",
    ),
    (
        "Value error, Cannot find the config file for awq",
        "quant_mismatch",
        "the checkpoint is not quantized the way that engine_args says",
    ),
    (
        "VLLMValidationError: The supplied chat template string (/nonexistent.jinja) appears path-like",
        "bad_option",
        "the engine refuses an option: The supplied chat template string (/nonexistent.jinja) appears path-like",
    ),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.",
        "hub_not_found",
        "the repository does not exist, or is private",
    ),
    ("OSError: [Errno 28] No space left on device", "disk_full", "the disk is full"),
    (
        "torch._inductor.exc.InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx",
        "no_compiler",
        "the engine compiles kernels when it starts, and there is no C++ compiler",
    ),
    (
        "ValidationError: 1 validation error for VllmConfig\n  Value error, Expecting value: line 1 column 1 (char 0)",
        "validation",
        "the engine refuses its configuration: Expecting value: line 1 column 1 (char 0)",
    ),
    (
        (
            "ValueError: Free memory on device cuda:0 (9.25/79.25 GiB) on startup is less than desired GPU memory "
            "utilization (0.92, 72.91 GiB)."
        ),
        "gpu_busy",
        "only 9.25 of 79.25 GiB are free on cuda:0: another process holds GPU memory",
    ),
    (
        (
            "The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
            "Current capability: 80."
        ),
        "quant_cc",
        "fp8 needs compute capability 89 and this GPU has 80",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12080).",
        "driver_old",
        "the NVIDIA driver is too old for this build of the engine",
    ),
]


@pytest.mark.parametrize("log, code, cause", SEEN, ids=[f"{row[1]}-{index}" for index, row in enumerate(SEEN)])
def test_known_texts_are_explained(log: str, code: str, cause: str) -> None:
    failure = explain(f"(APIServer pid=1) INFO start\n{log}\n", 1)
    assert (failure.code, failure.cause) == (code, cause)
    assert failure.hint


def test_the_root_cause_wins_over_the_wrapper_that_follows_it() -> None:
    log = "ValueError: No available memory for the cache blocks.\nRuntimeError: Engine core initialization failed. See"
    assert explain(log, 1).code == "no_kv_memory"


@pytest.mark.parametrize(
    "exit_code, code, words",
    [
        (-9, "signal_9", "the kernel's OOM killer is the usual sender"),
        (-11, "signal_11", "killed by signal 11"),
        (0, "exit_unasked", "although nobody asked"),
        (3, "unknown", "exit code 3"),
        (None, "unknown", "stopped working"),
    ],
)
def test_without_a_known_text_the_exit_code_is_all_there_is(exit_code, code: str, words: str) -> None:
    failure = explain("something\nnobody knows\n", exit_code)
    assert (failure.code, failure.retry) == (code, Retry.BACKOFF)
    assert words in failure.cause
    assert failure.lines == ("something", "nobody knows")


def test_limits_of_hardware_and_model_are_gates() -> None:
    assert explain("No available memory for the cache blocks", 1).exit_code is ExitCode.BLOCKED
    assert explain("SafetensorError: incomplete metadata", 1).exit_code is ExitCode.FAILED


def test_a_healthy_start_contains_no_line_that_ends_it() -> None:
    assert not [line for line in (LOGS / "healthy-start.log").read_text().splitlines() if fatal_line(line)]


def test_an_engine_that_lingers_is_given_away_by_its_log() -> None:
    lines = (LOGS / "fail-kv-too-small.log").read_text().splitlines()
    assert [line for line in lines if fatal_line(line)]
