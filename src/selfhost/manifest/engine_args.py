"""`engine_args`: which of the engine's own options a manifest may set, and how they are written. Pure.

That an option exists, and takes this value, is checked later against the engine's own argument parser.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from selfhost.manifest.values import Twin, refuse, without_twins

Scalar = bool | int | float | str
EngineArg = Scalar | tuple[Scalar, ...]

MAX_ARGUMENT_BYTES = 100_000  # of one text; the kernel refuses an argument above 128 KiB (MAX_ARG_STRLEN)

# Why an option is not for `engine_args`; "data-parallel-*" is a family. Spelled as vLLM 0.32 spells them.
_REASONS: Mapping[str, str] = {
    # The manifest has a field for it.
    "use `aliases` (and `name`)": "served-model-name",
    "use `gateway.keys`": "api-key",
    "use `gateway.listen`": "host port",
    "use `gpu_memory_utilization`": "gpu-memory-utilization device-memory-utilization",
    "use `max_model_len`": "max-model-len",
    "use `replicas`": "data-parallel-size",
    "use `revision`": "revision",
    "use `source`": "model",
    "use `tensor_parallel_size`": "tensor-parallel-size",
    # selfhost decides it, and the rest of selfhost relies on that.
    "engines listen on a private unix socket behind the gateway": (
        "uds grpc grpc-port root-path ssl-* enable-ssl-refresh disable-fastapi-docs"
    ),
    "the plan sizes the KV cache": "kv-cache-memory-bytes num-gpu-blocks-override",
    "the plan places the engine on its GPUs": (
        "device-ids headless api-server-count nnodes node-rank master-addr master-port distributed-executor-backend "
        "pipeline-parallel-size decode-context-parallel-size prefill-context-parallel-size data-parallel-* "
        "dp-supervisor-* enable-elastic-ep elastic-ep-max-dp-size"
    ),
    "selfhost starts, watches and stops the engine": "help version shutdown-timeout disable-log-stats",
    "the engine reads nothing but the verified files of `source`": (
        "tokenizer tokenizer-revision code-revision hf-config-path hf-token download-dir load-format"
    ),
    # It would open what selfhost promises to keep shut.
    "it would run code that is not the engine's": (
        "trust-remote-code middleware model-class-overrides logits-processors io-processor-plugin tool-parser-plugin "
        "reasoning-parser-plugin worker-cls worker-extension-cls scheduler-cls logging-config log-config-file"
    ),
    "it would let requests bring code, tensors or files of this machine": (
        "trust-request-chat-template trust-request-mm-kwargs enable-prompt-embeds enable-mm-embeds "
        "allowed-local-media-path tool-server profiler-config"
    ),
    "it would open network ports of the engine": (
        "kv-transfer-config kv-events-config ec-transfer-config weight-transfer-config"
    ),
    "it would write prompts and answers into logs": (
        "enable-log-requests disable-log-requests enable-log-outputs enable-log-deltas"
    ),
    "it would read options from a file that selfhost does not see": "config",
}
_NOT_SHORT = {"reasoning-parser"}  # an option of its own that another one begins with
RESERVED: Mapping[str, str] = {option: reason for reason, options in _REASONS.items() for option in options.split()}


def _reason_against(option: str) -> str | None:
    word = option.partition(".")[0].removeprefix("no-")
    for reserved, reason in RESERVED.items():
        if reserved.endswith("*") and word.startswith(reserved[:-1]):
            return reason
        if reserved == word:
            return reason
        # Python's argument parsers take "hos" for --host.
        if reserved.startswith(word) and word not in _NOT_SHORT:
            return f"short for `{reserved}`: {reason}"
    return None


def _option(key: str) -> str:
    """The option that `key` names, without dashes in front: `max_num_seqs` is `max-num-seqs`."""
    if key.startswith("-"):
        raise refuse("should be written without the dashes in front", hint=f"write `{key.lstrip('-')}`")
    # Only the first word: behind a dot stand keys of a JSON value (`compilation-config.cudagraph_mode`).
    word, dot, rest = key.partition(".")
    option = word.replace("_", "-") + dot + rest
    if re.fullmatch(r"[a-z][a-z0-9-]*(?:\.[A-Za-z0-9_-]+)*", option) is None:
        raise refuse("should be the name of an engine option, such as max-num-seqs")
    if reason := _reason_against(option):
        raise refuse(f"is not for `engine_args`: {reason}")
    return option


def _value(value: Any) -> EngineArg:
    if isinstance(value, tuple | list):
        for item in value:
            if wrong := _wrong_with(item):
                raise refuse(f"has an entry that {wrong}")
        return tuple(value)
    if not isinstance(value, bool | int | float | str):
        raise refuse("should be one value or a list of values", hint="""write a JSON object as text: '{"key": 1}'""")
    if wrong := _wrong_with(value):
        raise refuse(wrong)
    return value


def _wrong_with(value: Any) -> str | None:
    match value:
        case str() if value.startswith("-"):
            return "begins with '-': the engine would take it for an option"
        case str() if len(value.encode()) > MAX_ARGUMENT_BYTES:
            return f"has more than {MAX_ARGUMENT_BYTES} bytes: put it into a file"
        case float() if not math.isfinite(value):
            return "is not a finite number"
        case bool() | int() | float() | str():
            return None
        case _:
            return "is not one value"


def _same_options(value: Any) -> Iterator[Twin]:
    """Keys that are spellings of one option (`max_num_seqs` and `max-num-seqs`)."""
    first: dict[str, str] = {}
    for key in value if isinstance(value, Mapping) else ():
        spelled = key.replace("_", "-")
        if spelled in first:
            yield Twin((key,), (first[spelled],), f"is the same option as `{first[spelled]}`")
        first.setdefault(spelled, key)


_SCALARS = [{"type": word} for word in ("boolean", "number", "string")]

EngineArgs = Annotated[
    Mapping[
        Annotated[str, AfterValidator(_option)],
        Annotated[
            EngineArg,
            BeforeValidator(_value),
            WithJsonSchema({"anyOf": [*_SCALARS, {"type": "array", "items": {"anyOf": _SCALARS}}]}),
        ],
    ],
    without_twins(_same_options),
]
