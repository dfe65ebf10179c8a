"""A replica as a `vllm serve` command line, and vLLM's words in what it logs. Pure.

The engine is used only through its public surface: command line, HTTP, metrics, log.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from selfhost.engines.arguments import EngineArguments, to_argv
from selfhost.engines.command import Command
from selfhost.planner.plan import Deployment, Platform, Replica
from selfhost.planner.routing import ReplicaState

# What of our own environment an engine may see. Everything else stays out: tokens, dev-mode switches
# (VLLM_SERVER_DEV_MODE opens unauthenticated endpoints), LoRA loading over HTTP, PYTHONPATH, PYTHONOPTIMIZE.
INHERITED = (
    "CUDA_HOME",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LOGNAME",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "SSL_CERT_FILE",
    "TZ",
    "USER",
)

# Paths that orchestration asks all the time; their access lines would bury the engine's own words.
QUIET_PATHS = "/health,/metrics,/ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Where one start of an engine lives."""

    executable: str  # the environment's `vllm`
    model_path: str  # local folder with the weights; never a repository id, so nothing is fetched behind our back
    socket: str  # unix socket to listen on
    temp_dir: str  # its own TMPDIR and ZMQ sockets; removed after the exit
    cache_dir: str  # compiled kernels; shared by all starts
    api_key: str  # internal, random
    drain_seconds: int  # how long running requests may go on after SIGTERM


def serve_command(
    deployment: Deployment,
    replica: Replica,
    platform: Platform,
    launch: Launch,
    *,
    arguments: EngineArguments,
    inherited: Mapping[str, str],
) -> Command:
    """The command that starts `replica`.

    `arguments` is the dump of this engine's own parser, `inherited` the environment of the caller.
    """
    argv = [
        launch.executable,
        "serve",
        launch.model_path,
        f"--served-model-name={deployment.name}",
        f"--uds={launch.socket}",
        f"--max-model-len={deployment.max_model_len}",
        f"--shutdown-timeout={launch.drain_seconds}",
        f"--disable-access-log-for-endpoints={QUIET_PATHS}",
        "--disable-fastapi-docs",
    ]
    if replica.gpu_memory_utilization is None:
        argv.append(f"--kv-cache-memory-bytes={replica.memory.kv_cache.bytes}")
    else:
        argv.append(f"--gpu-memory-utilization={replica.gpu_memory_utilization:.4f}")
        argv.append(f"--tensor-parallel-size={deployment.tensor_parallel_size}")
    argv += to_argv(arguments, deployment.engine_args)
    return Command(
        argv=tuple(argv),
        env=_environment(replica, platform, launch, inherited) | dict(deployment.environment),
    )


def _environment(replica: Replica, platform: Platform, launch: Launch, inherited: Mapping[str, str]) -> dict[str, str]:
    env = {name: inherited[name] for name in INHERITED if name in inherited}
    bin_dir = launch.executable.rpartition("/")[0]
    env |= {
        "PATH": f"{bin_dir}:{inherited.get('PATH', '/usr/bin:/bin')}",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": launch.temp_dir,
        "TORCHINDUCTOR_CACHE_DIR": f"{launch.cache_dir}/torchinductor",
        "TRITON_CACHE_DIR": f"{launch.cache_dir}/triton",
        "VLLM_API_KEY": launch.api_key,
        "VLLM_CACHE_ROOT": f"{launch.cache_dir}/vllm",
        "VLLM_CONFIG_ROOT": f"{launch.cache_dir}/vllm-config",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_RPC_BASE_PATH": launch.temp_dir,
    }
    if platform is Platform.CPU:
        env["VLLM_TARGET_DEVICE"] = "cpu"
    else:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        env["CUDA_VISIBLE_DEVICES"] = ",".join(replica.gpu_uuids)
    return env


# What the engine logs when it gets from one phase to the next (vLLM 0.32, read off real starts on CPU).
PHASES = (
    (re.compile(r"Starting to load model|Loading safetensors|Initializing model took"), ReplicaState.LOADING),
    (re.compile(r"init engine \(profile|Graph capturing finished|Application startup complete"), ReplicaState.WARMING),
)


def phase_of(line: str) -> ReplicaState | None:
    """The phase that a log line announces, None for all other lines."""
    return next((state for pattern, state in PHASES if pattern.search(line)), None)
