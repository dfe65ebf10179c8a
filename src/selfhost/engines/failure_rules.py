"""The known ways in which an engine fails to start or dies, as data: text to find, what to say, what to do.

One table, in one place, because its order is its meaning: that is why this file is longer than the others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """Whether starting again can help."""

    NEVER = "never"  # the same command fails again: somebody must change something
    BACKOFF = "backoff"  # another start, with a growing delay, can help
    HOST = "host"  # the machine needs a person first


@dataclass(frozen=True, slots=True)
class Rule:
    """One known failure; `{name}` in a sentence stands for the pattern's group of that name."""

    code: str
    retry: Retry
    pattern: re.Pattern[str]
    cause: str
    hint: str
    gate: bool = False  # a limit of model or hardware rather than a defect: exit code 4
    ends_start: bool = False  # its text alone proves that the start is lost

    def say(self, groups: Mapping[str, str]) -> str:
        """The cause with what the log said filled in."""
        return _fill(self.cause, groups)

    def advise(self, groups: Mapping[str, str]) -> str:
        """The hint with what the log said filled in."""
        return _fill(self.hint, groups)


def _fill(sentence: str, groups: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda field: groups.get(field[1], ""), sentence).rstrip(": ")


def _rule(
    code: str, retry: Retry, pattern: str, cause: str, hint: str, *, gate: bool = False, ends_start: bool = False
) -> Rule:
    return Rule(code, retry, re.compile(pattern), cause, hint, gate=gate, ends_start=ends_start)


# The order matters: first match wins, root causes before the wrappers that follow them.
RULES: tuple[Rule, ...] = (
    _rule(
        "address_in_use",
        Retry.NEVER,
        r"OSError: \[Errno 98\] (?:.*)?[Aa]ddress already in use|error while attempting to bind on address",
        "its address is already in use",
        "is an engine of an earlier start still alive? selfhost down, then up",
    ),
    _rule(
        "usage",
        Retry.NEVER,
        r"(?:vllm|api_server\.py)[^\n]*: error: (?P<detail>[^\n]+)",
        "the engine refuses its command line: {detail}",
        "correct engine_args in the manifest",
    ),
    _rule(
        "max_len_over_model",
        Retry.NEVER,
        r"User-specified max_model_len \((?P<wanted>\d+)\) is greater than the derived max_model_len "
        r"\((?:[a-z_]+=(?P<own>\d+))?",
        "max_model_len {wanted} is more than the model's own {own}",
        "lower max_model_len to {own}, or leave it out",
        gate=True,
    ),
    _rule(
        "kv_too_small",
        Retry.NEVER,
        r"To serve at least one request with the model's max seq len \((?P<wanted>\d+)\)[^\n]*?"
        r"\((?P<needed>[\d.]+) GiB KV cache is needed[^\n]*?available KV cache memory \((?P<there>[\d.]+) GiB\)"
        r"[^\n]*?estimated maximum model length is (?P<fits>\d+)",
        "one request of {wanted} tokens needs {needed} GiB of KV cache and {there} GiB are there",
        "max_model_len: {fits} would fit",
        gate=True,
        ends_start=True,
    ),
    _rule(
        "kv_too_small",  # the same, where not even a short request would fit
        Retry.NEVER,
        r"To serve at least one request with the model's max seq len \((?P<wanted>\d+)\)[^\n]*?"
        r"\((?P<needed>[\d.]+) GiB KV cache is needed[^\n]*?available KV cache memory \((?P<there>[\d.]+) GiB\)",
        "one request of {wanted} tokens needs {needed} GiB of KV cache and {there} GiB are there",
        "more GPUs, a smaller or a quantized checkpoint",
        gate=True,
        ends_start=True,
    ),
    _rule(
        "no_kv_memory",
        Retry.NEVER,
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len",
        "the weights leave no memory for the KV cache",
        "more GPUs, a quantized checkpoint, or a higher gpu_memory_utilization",
        gate=True,
        ends_start=True,
    ),
    _rule(
        "gpu_busy",
        Retry.HOST,
        r"Free memory on device (?P<device>\S+) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than "
        r"desired GPU memory utilization",
        "only {free} of {total} GiB are free on {device}: another process holds GPU memory",
        "see `selfhost gpus` and nvidia-smi for who it is",
        gate=True,
        ends_start=True,
    ),
    _rule(
        "cpu_memory",
        Retry.HOST,
        r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on kv cache",
        "only {free} of {total} GiB of host memory are free, less than the KV cache needs",
        "stop other processes, or lower concurrency or max_model_len",
        gate=True,
        ends_start=True,
    ),
    _rule(
        "memory_profile_race",
        Retry.BACKOFF,
        r"Error in memory profiling\. Initial free memory",
        "somebody freed GPU memory while the engine measured it",
        "the next start measures again",
        ends_start=True,
    ),
    _rule(
        "cuda_oom",
        Retry.NEVER,
        r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory",
        "the GPU ran out of memory",
        "lower engine_args max-num-seqs, gpu_memory_utilization or max_model_len",
        gate=True,
    ),
    _rule(
        "world_size",
        Retry.NEVER,
        r"World size \((?P<wanted>\d+)\) is larger than the number of available GPUs \((?P<there>\d+)\)",
        "the model is split over {wanted} GPUs and the engine sees {there}",
        "see `selfhost gpus`; lower tensor_parallel_size",
        gate=True,
    ),
    _rule(
        "tp_divides",
        Retry.NEVER,
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by "
        r"tensor parallel size \((?P<size>\d+)\)",
        "tensor_parallel_size {size} does not divide the model's {heads} attention heads",
        "choose one that does, or leave it out",
        gate=True,
    ),
    _rule(
        "bf16_cc",
        Retry.NEVER,
        r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0",
        "this GPU has no bfloat16",
        "choose a float16 checkpoint, or a newer GPU",
        gate=True,
    ),
    _rule(
        "quant_cc",
        Retry.NEVER,
        r"The quantization method (?P<method>\S+) is not supported for the current GPU\. Minimum capability: "
        r"(?P<minimum>\d+)\.\s*Current capability: (?P<current>\d+)",
        "{method} needs compute capability {minimum} and this GPU has {current}",
        "choose a checkpoint with a quantization that this GPU supports",
        gate=True,
    ),
    _rule(
        "quant_mismatch",
        Retry.NEVER,
        r"Quantization method specified in the model config \((?P<own>\w+)\) does not match"
        r"|Cannot find the config file for (?P<wanted>\w+)|Unknown quantization method: (?P<unknown>[^\s.]+)",
        "the checkpoint is not quantized the way that engine_args says",
        "leave `quantization` out: the engine reads it from the checkpoint",
    ),
    _rule(
        "arch_unsupported",
        Retry.NEVER,
        r"Model architectures \[(?P<names>[^\]]*)\] are not supported for now"
        r"|The checkpoint you are trying to load has model type [`'\"](?P<type>[^`'\"]+)",
        "this version of vLLM does not know the model's architecture ({names}{type})",
        "choose another model, or a newer engine.vllm",
        gate=True,
    ),
    _rule(
        "remote_code",
        Retry.NEVER,
        r"(?:pass|set|specify|with)[^\n]{0,60}trust_remote_code=True",
        "the repository wants to run its own code",
        "selfhost does not run code from model repositories; choose another model",
        gate=True,
    ),
    _rule(
        "weights_corrupt",
        Retry.NEVER,
        r"SafetensorError: (?P<detail>[^\n]+)|Error while deserializing header",
        "a weights file is damaged: {detail}",
        "remove it and fetch it again: selfhost pull",
        ends_start=True,
    ),
    _rule(
        "weights_missing",
        Retry.NEVER,
        r"Cannot find any model weights with `(?P<folder>[^`]+)`",
        "there are no weights in {folder}",
        "the download is incomplete: selfhost pull",
        ends_start=True,
    ),
    _rule(
        "config_missing",
        Retry.NEVER,
        r"No (?:file named )?config\.json|ensure the presence of a 'config\.json'"
        r"|Invalid repository ID or local directory specified",
        "the model folder has no config.json",
        "is it a model folder in the Hugging Face layout?",
    ),
    _rule(
        "tokenizer",
        Retry.NEVER,
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer",
        "the model's tokenizer cannot be loaded",
        "are its tokenizer files there? selfhost pull",
    ),
    _rule(
        "hub_gated",
        Retry.NEVER,
        r"GatedRepoError|Cannot access gated repo",
        "the repository is gated",
        "accept its licence on the Hub and set HF_TOKEN",
        gate=True,
    ),
    _rule(
        "hub_not_found",
        Retry.NEVER,
        r"RepositoryNotFoundError|Repository Not Found for url|RevisionNotFoundError",
        "the repository does not exist, or is private",
        "check `source`; a private repository needs HF_TOKEN",
        gate=True,
    ),
    _rule(
        "hub_bad_id",
        Retry.NEVER,
        r"HFValidationError: (?P<detail>[^\n]+)",
        "the model folder does not exist, so its path was read as a repository id",
        "check `source`",
    ),
    _rule(
        "hub_offline",
        Retry.BACKOFF,
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to",
        "the engine looked for files on the Hub and could not reach it",
        "a file is missing from the model folder: selfhost pull",
    ),
    _rule(
        "disk_full",
        Retry.HOST,
        r"No space left on device",
        "the disk is full",
        "free some (also in /dev/shm and the temporary folder), then selfhost up",
        gate=True,
    ),
    _rule(
        "shm",
        Retry.HOST,
        r"Error while creating shared memory segment|unable to (?:allocate|open) shared memory",
        "/dev/shm is too small",  # noqa: S108 (a sentence)
        "give the container more: docker run --shm-size 8g, or shm_size in Compose",
        gate=True,
    ),
    _rule(
        "driver_old",
        Retry.HOST,
        r"The NVIDIA driver on your system is too old|CUDA driver version is insufficient|Error 80[34]:",
        "the NVIDIA driver is too old for this build of the engine",
        "update the driver; `selfhost gpus` shows its version",
        gate=True,
    ),
    _rule(
        "no_gpu",
        Retry.HOST,
        r"Failed to infer device type|No CUDA GPUs are available|NVML Shared Library Not Found|no NVIDIA driver",
        "the engine sees no GPU",
        "see `selfhost gpus`; a container needs --gpus all",
        gate=True,
    ),
    _rule(
        "gpu_lost",
        Retry.HOST,
        r"GPU is lost|fallen off the bus|uncorrectable ECC error|an illegal memory access"
        r"|CUDA error: (?P<detail>[^\n]+)",
        "the GPU failed: {detail}",
        "look for NVRM: Xid in dmesg; the GPU may need a reset",
        gate=True,
    ),
    _rule(
        "no_compiler",
        Retry.NEVER,
        r"InvalidCxxCompiler|No working C\+\+ compiler found",
        "the engine compiles kernels when it starts, and there is no C++ compiler",
        "install g++, or write engine_args: {enforce-eager: true}",
    ),
    _rule(
        "nccl",
        Retry.BACKOFF,
        r"NCCL error|ncclSystemError|unhandled (?:cuda|system) error",
        "the GPUs cannot talk to each other (NCCL)",
        "NCCL_DEBUG=INFO tells more; NCCL_P2P_DISABLE=1 helps where P2P is broken",
    ),
    _rule(
        "peer_timeout",
        Retry.BACKOFF,
        r"Watchdog caught collective operation timeout|RPC call to \S+ timed out",
        "a worker of the engine hangs",
        "",
    ),
    _rule(
        "engine_died",
        Retry.BACKOFF,
        r"engine core exited unexpectedly|EngineDeadError|Worker proc \S+ died unexpectedly",
        "the engine's core process died",
        "",
    ),
    _rule(
        "bad_option",
        Retry.NEVER,
        r"KeyError: 'invalid (?P<detail>(?:tool call|reasoning) parser: \S+)|VLLMValidationError: (?P<value>[^\n]+)",
        "the engine refuses an option: {detail}{value}",
        "correct engine_args in the manifest",
    ),
    _rule(
        "init_failed",
        Retry.NEVER,
        r"Engine core initialization failed\. See root cause above",
        "the engine could not initialise",
        "the cause stands further up in its log: selfhost logs",
    ),
    _rule(
        "validation",
        Retry.NEVER,
        r"ValidationError: [^\n]*\n\s*(?:Value error, )?(?P<detail>[^\n]+)",
        "the engine refuses its configuration: {detail}",
        "correct the manifest",
    ),
)
