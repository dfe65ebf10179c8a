"""The Plan: what will run, where, and why; immutable, and the same value in review, in `up` and in the manager."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from selfhost.catalog.model import CheckpointRef
from selfhost.planner.routing import HashedKey

Scalar = str | int | float | bool
EngineArgs = Mapping[str, Scalar | tuple[Scalar, ...]]


class Basis(StrEnum):
    """How a number is known."""

    MEASURED = "measured"  # read from this machine
    DERIVED = "derived"  # computed from the checkpoint and the engine's own rules
    ESTIMATED = "estimated"  # from a calibrated table with a margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of bytes, how it is known, and from what."""

    bytes: int
    basis: Basis
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of one replica on each of its GPUs (on a CPU box: on the host)."""

    total: Figure  # of the device
    budget: Figure  # what this replica may take of it
    weights: Figure
    reserve: Figure  # activations, CUDA graphs and what else no config tells
    kv_cache: Figure  # what the replica gets for its KV cache
    kv_cache_needed: Figure  # what max_model_len × concurrency needs of it


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """The engine's KV cache plan for `Memory.kv_cache` (vLLM `v1/core/kv_cache_utils.py:get_kv_cache_configs`)."""

    block_size: int  # tokens
    bytes_per_block: int
    num_blocks: int
    tokens: int  # as the engine's log prints them
    max_concurrency: float  # requests of max_model_len tokens at once


class Platform(StrEnum):
    """What an engine build computes on."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuild:
    """Which engine: found or built as an environment of its own."""

    vllm_version: str
    platform: Platform
    python: str | None = None  # an interpreter the manifest names; None: selfhost's own environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One engine process group of a deployment, and the GPUs that it gets."""

    name: str  # "chat/0"
    gpu_uuids: tuple[str, ...]  # of whole GPUs or of one MIG device; empty: the CPU
    gpu_labels: tuple[str, ...]  # the same for people: "0", "0:1" for MIG device 1 of GPU 0
    gpu_memory_utilization: float | None  # share of each GPU's total that the engine may take; None on CPU
    memory: Memory
    kv_cache: KvCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One served model."""

    name: str
    aliases: tuple[str, ...]
    checkpoint: CheckpointRef
    max_model_len: int  # tokens per request
    concurrency: int  # full-length requests that must fit at once
    tensor_parallel_size: int
    gpu_memory_utilization: float  # the share asked for; a replica that shares its GPU gets less
    engine_args: EngineArgs
    replicas: tuple[Replica, ...]
    causes: tuple[str, ...]  # why it is planned like this


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan:
    """The front door."""

    host: str
    port: int
    keys: tuple[HashedKey, ...]

    @property
    def address(self) -> str:
        """`127.0.0.1:8000`, `[::1]:8000`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that will run for one manifest."""

    name: str
    machine: str  # one line about where: "8 × NVIDIA H100 80GB HBM3, driver 580.95.05, CUDA 13.0"
    engine: EngineBuild
    gateway: GatewayPlan
    deployments: tuple[Deployment, ...]
