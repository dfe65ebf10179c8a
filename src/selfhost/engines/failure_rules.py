"""The known ways in which an engine fails to start or dies: text to find, what to say, what to do."""

from selfhost.engines.failure_rule import Retry, Rule

# The order matters: first match wins, root causes before the wrappers that follow them.
RULES: tuple[Rule, ...] = (
    Rule(
        "address_in_use",
        r"OSError: \[Errno 98\] (?:.*)?[Aa]ddress already in use|error while attempting to bind on address",
        "its address is already in use",
        "is an engine of an earlier start still alive? selfhost down, then up",
    ),
    Rule(
        "usage",
        r"(?:vllm|api_server\.py)[^\n]*: error: (?P<detail>[^\n]+)",
        "the engine refuses its command line: {detail}",
        "correct engine_args in the manifest",
    ),
    Rule(
        "max_len_over_model",
        r"User-specified max_model_len \((?P<wanted>\d+)\) is greater than the derived max_model_len "
        r"\((?:[a-z_]+=(?P<own>\d+))?",
        "max_model_len {wanted} is more than the model's own {own}",
        "lower max_model_len to {own}, or leave it out",
        gate=True,
    ),
    Rule(
        "kv_too_small",
        r"To serve at least one request with the model's max seq len \((?P<wanted>\d+)\)[^\n]*?"
        r"\((?P<needed>[\d.]+) GiB KV cache is needed[^\n]*?available KV cache memory \((?P<there>[\d.]+) GiB\)"
        r"[^\n]*?estimated maximum model length is (?P<fits>\d+)",
        "one request of {wanted} tokens needs {needed} GiB of KV cache and {there} GiB are there",
        "max_model_len: {fits} would fit",
        gate=True,
        ends_start=True,
    ),
    Rule(
        "kv_too_small",  # the same, where not even a short request would fit
        r"To serve at least one request with the model's max seq len \((?P<wanted>\d+)\)[^\n]*?"
        r"\((?P<needed>[\d.]+) GiB KV cache is needed[^\n]*?available KV cache memory \((?P<there>[\d.]+) GiB\)",
        "one request of {wanted} tokens needs {needed} GiB of KV cache and {there} GiB are there",
        "more GPUs, a smaller or a quantized checkpoint",
        gate=True,
        ends_start=True,
    ),
    Rule(
        "no_kv_memory",
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len",
        "the weights leave no memory for the KV cache",
        "more GPUs, a quantized checkpoint, or a higher gpu_memory_utilization",
        gate=True,
        ends_start=True,
    ),
    Rule(
        "gpu_busy",
        r"Free memory on device (?P<device>\S+) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than "
        r"desired GPU memory utilization",
        "only {free} of {total} GiB are free on {device}: another process holds GPU memory",
        "see `selfhost gpus` and nvidia-smi for who it is",
        gate=True,
        ends_start=True,
        retry=Retry.HOST,
    ),
    Rule(
        "cpu_memory",
        r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on kv cache",
        "only {free} of {total} GiB of host memory are free, less than the KV cache needs",
        "stop other processes, or lower concurrency or max_model_len",
        gate=True,
        ends_start=True,
        retry=Retry.HOST,
    ),
    Rule(
        "memory_profile_race",
        r"Error in memory profiling\. Initial free memory",
        "somebody freed GPU memory while the engine measured it",
        "the next start measures again",
        ends_start=True,
        retry=Retry.BACKOFF,
    ),
    Rule(
        "cuda_oom",
        r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory",
        "the GPU ran out of memory",
        "lower engine_args max-num-seqs, gpu_memory_utilization or max_model_len",
        gate=True,
    ),
    Rule(
        "world_size",
        r"World size \((?P<wanted>\d+)\) is larger than the number of available GPUs \((?P<there>\d+)\)",
        "the model is split over {wanted} GPUs and the engine sees {there}",
        "see `selfhost gpus`; lower tensor_parallel_size",
        gate=True,
    ),
    Rule(
        "tp_divides",
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by "
        r"tensor parallel size \((?P<size>\d+)\)",
        "tensor_parallel_size {size} does not divide the model's {heads} attention heads",
        "choose one that does, or leave it out",
        gate=True,
    ),
    Rule(
        "bf16_cc",
        r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0",
        "this GPU has no bfloat16",
        "choose a float16 checkpoint, or a newer GPU",
        gate=True,
    ),
    Rule(
        "quant_cc",
        r"The quantization method (?P<method>\S+) is not supported for the current GPU\. Minimum capability: "
        r"(?P<minimum>\d+)\.\s*Current capability: (?P<current>\d+)",
        "{method} needs compute capability {minimum} and this GPU has {current}",
        "choose a checkpoint with a quantization that this GPU supports",
        gate=True,
    ),
    Rule(
        "quant_mismatch",
        r"Quantization method specified in the model config \((?P<own>\w+)\) does not match"
        r"|Cannot find the config file for (?P<wanted>\w+)|Unknown quantization method: (?P<unknown>[^\s.]+)",
        "the checkpoint is not quantized the way that engine_args says",
        "leave `quantization` out: the engine reads it from the checkpoint",
    ),
    Rule(
        "arch_unsupported",
        r"Model architectures \[(?P<names>[^\]]*)\] are not supported for now"
        r"|The checkpoint you are trying to load has model type [`'\"](?P<type>[^`'\"]+)",
        "this version of vLLM does not know the model's architecture ({names}{type})",
        "choose another model, or a newer engine.vllm",
        gate=True,
    ),
    Rule(
        "remote_code",
        r"(?:pass|set|specify|with)[^\n]{0,60}trust_remote_code=True",
        "the repository wants to run its own code",
        "selfhost does not run code from model repositories; choose another model",
        gate=True,
    ),
    Rule(
        "weights_corrupt",
        r"SafetensorError: (?P<detail>[^\n]+)|Error while deserializing header",
        "a weights file is damaged: {detail}",
        "remove it and fetch it again: selfhost pull",
        ends_start=True,
    ),
    Rule(
        "weights_missing",
        r"Cannot find any model weights with `(?P<folder>[^`]+)`",
        "there are no weights in {folder}",
        "the download is incomplete: selfhost pull",
        ends_start=True,
    ),
    Rule(
        "config_missing",
        r"No (?:file named )?config\.json|ensure the presence of a 'config\.json'"
        r"|Invalid repository ID or local directory specified",
        "the model folder has no config.json",
        "is it a model folder in the Hugging Face layout?",
    ),
    Rule(
        "tokenizer",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer",
        "the model's tokenizer cannot be loaded",
        "are its tokenizer files there? selfhost pull",
    ),
    Rule(
        "hub_gated",
        r"GatedRepoError|Cannot access gated repo",
        "the repository is gated",
        "accept its licence on the Hub and set HF_TOKEN",
        gate=True,
    ),
    Rule(
        "hub_not_found",
        r"RepositoryNotFoundError|Repository Not Found for url|RevisionNotFoundError",
        "the repository does not exist, or is private",
        "check `source`; a private repository needs HF_TOKEN",
        gate=True,
    ),
    Rule(
        "hub_bad_id",
        r"HFValidationError: (?P<detail>[^\n]+)",
        "the model folder does not exist, so its path was read as a repository id",
        "check `source`",
    ),
    Rule(
        "hub_offline",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to",
        "the engine looked for files on the Hub and could not reach it",
        "a file is missing from the model folder: selfhost pull",
        retry=Retry.BACKOFF,
    ),
    Rule(
        "disk_full",
        r"No space left on device",
        "the disk is full",
        "free some (also in /dev/shm and the temporary folder), then selfhost up",
        gate=True,
        retry=Retry.HOST,
    ),
    Rule(
        "shm",
        r"Error while creating shared memory segment|unable to (?:allocate|open) shared memory",
        "/dev/shm is too small",  # noqa: S108 (a sentence)
        "give the container more: docker run --shm-size 8g, or shm_size in Compose",
        gate=True,
        retry=Retry.HOST,
    ),
    Rule(
        "driver_old",
        r"The NVIDIA driver on your system is too old|CUDA driver version is insufficient|Error 80[34]:",
        "the NVIDIA driver is too old for this build of the engine",
        "update the driver; `selfhost gpus` shows its version",
        gate=True,
        retry=Retry.HOST,
    ),
    Rule(
        "no_gpu",
        r"Failed to infer device type|No CUDA GPUs are available|NVML Shared Library Not Found|no NVIDIA driver",
        "the engine sees no GPU",
        "see `selfhost gpus`; a container needs --gpus all",
        gate=True,
        retry=Retry.HOST,
    ),
    Rule(
        "mig_number",  # vLLM 0.32 platforms/cuda.py:device_control_id_to_physical_device_id; read, never seen
        r"NVMLError_InvalidArgument",
        "the engine took the number of its MIG device for the number of a card that is not there",
        "use the first MIG device of each card (CUDA_VISIBLE_DEVICES), or a container with one MIG device per engine",
        gate=True,
    ),
    Rule(
        "gpu_lost",
        r"GPU is lost|fallen off the bus|uncorrectable ECC error|an illegal memory access"
        r"|CUDA error: (?P<detail>[^\n]+)",
        "the GPU failed: {detail}",
        "look for NVRM: Xid in dmesg; the GPU may need a reset",
        gate=True,
        retry=Retry.HOST,
    ),
    Rule(
        "no_compiler",
        r"InvalidCxxCompiler|No working C\+\+ compiler found",
        "the engine compiles kernels when it starts, and there is no C++ compiler",
        "install g++, or write engine_args: {enforce-eager: true}",
    ),
    Rule(
        "nccl",
        r"NCCL error|ncclSystemError|unhandled (?:cuda|system) error",
        "the GPUs cannot talk to each other (NCCL)",
        "`selfhost doctor --deep` tests the links between the GPUs; engines are then started with what NCCL needs",
        retry=Retry.BACKOFF,
    ),
    Rule(
        "peer_timeout",
        r"Watchdog caught collective operation timeout|RPC call to \S+ timed out",
        "a worker of the engine hangs",
        "",
        retry=Retry.BACKOFF,
    ),
    Rule(
        "engine_died",
        r"engine core exited unexpectedly|EngineDeadError|Worker proc \S+ died unexpectedly",
        "the engine's core process died",
        "",
        retry=Retry.BACKOFF,
    ),
    Rule(
        "bad_option",
        r"KeyError: 'invalid (?P<detail>(?:tool call|reasoning) parser: \S+)|VLLMValidationError: (?P<value>[^\n]+)",
        "the engine refuses an option: {detail}{value}",
        "correct engine_args in the manifest",
    ),
    Rule(
        "init_failed",
        r"Engine core initialization failed\. See root cause above",
        "the engine could not initialise",
        "the cause stands further up in its log: selfhost logs",
    ),
    Rule(
        "validation",
        r"ValidationError: [^\n]*\n\s*(?:Value error, )?(?P<detail>[^\n]+)",
        "the engine refuses its configuration: {detail}",
        "correct the manifest",
    ),
)
