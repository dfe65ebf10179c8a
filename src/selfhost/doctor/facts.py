"""Everything that the checks decide on, as values. Pure.

A fact is None where it means nothing here (CUDA on a box without a GPU), and `NotLooked` where it would mean something
and could not be found out: that is said, and never taken for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from selfhost.engines.gpu_answers import CudaProof, Outcome, Trial
from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.manifest.schema import Manifest
from selfhost.planner.plan import Deployment, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLooked:
    """Why something could not be looked at: the end of a sentence."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that another part of selfhost refuses, in its words."""

    message: str
    hint: str | None
    blocks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan for this box, or why there is none."""

    plan: Plan | None = None
    problem: Problem | None = None
    missing_weights: Mapping[str, int] = field(default_factory=dict)  # bytes by checkpoint label, of those from the Hub

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """What would be served."""
        return self.plan.deployments if self.plan else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaAnswer:
    """What libcuda says when it is really started."""

    code: int | None  # CUresult of cuInit(0), 0 for success; None: the library does not load
    error: str | None = None  # the dynamic linker's words
    device_count: int | None = None
    seconds: float | None = None  # it was still starting after so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A TCP socket that somebody listens on."""

    host: str
    port: int
    pid: int | None  # None: another user's, or outside of this container
    program: str | None  # "vllm", "python3": its name, never its arguments, which may hold keys
    ours: bool  # started by selfhost
    private: bool  # only this machine can connect


@dataclass(frozen=True, slots=True, kw_only=True)
class PortAnswer:
    """Whether the gateway's address can be listened on."""

    address: str
    error: str | None  # the kernel's words; None: it is free
    holder: Listener | None = None  # where it can be seen
    ours: bool = False  # the holder is a gateway of this very manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAnswer:
    """What the Hub says about the repositories of the manifest."""

    endpoint: str
    offline: bool  # HF_HUB_OFFLINE
    repositories: Mapping[str, Problem | None]  # by `REPO@REVISION`, as the manifest writes it
    unreachable: str | None = None  # why it did not answer at all
    clock_ahead_seconds: float | None = None  # this machine's clock against the Hub's; None: it did not say


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateFile:
    """A file or folder that others should not read."""

    path: str
    holds: str  # "the Hub token"
    mode: int  # permission bits
    folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledEngine:
    """An engine environment that selfhost built."""

    vllm_version: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashedRun:
    """A record of a process whose manager is gone."""

    manifest: str
    name: str  # "chat/0"
    pid: int | None  # it still runs
    shared_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Files that nobody uses any more."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What crashed or interrupted work left behind."""

    runs: tuple[CrashedRun, ...] = ()
    builds: tuple[Rest, ...] = ()  # engine environments that were never finished
    downloads: tuple[Rest, ...] = ()  # half-fetched files of the Hub cache
    unreadable: tuple[Problem, ...] = ()  # records that cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduce:
    """Two-rank all-reduces, with ever more careful settings of NCCL until one worked."""

    pair: tuple[Gpu, Gpu]
    trials: tuple[Trial, ...]

    @property
    def worked(self) -> Trial | None:
        """The one that came to its end, if one did."""
        return next((trial for trial in self.trials if trial.outcome is Outcome.OK), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """What the deep checks are about."""

    gpus: tuple[Gpu, ...]  # that were tried
    cuda: CudaProof
    all_reduce: AllReduce | NotLooked | None  # None: there are no two GPUs to add up


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One look at a box, with a manifest or without."""

    inventory: Inventory  # the memory of our own engines counted as free
    environ: Mapping[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    manifest_problem: Problem | None = None
    secrets_in_manifest: tuple[int, ...] | None = None  # lines that hold what looks like a key
    planned: Planned | NotLooked | None = None
    cuda: CudaAnswer | NotLooked | None = None
    engine_problems: tuple[Problem, ...] | NotLooked | None = None  # None: nothing is to be installed
    engines: tuple[InstalledEngine, ...] | NotLooked | None = None
    port: PortAnswer | NotLooked | None = None
    listeners: tuple[Listener, ...] | NotLooked | None = None
    hub: HubAnswer | NotLooked | None = None
    private_files: tuple[PrivateFile, ...] | NotLooked | None = None
    leftovers: Leftovers | NotLooked | None = None
    deep: Deep | NotLooked | None = None  # None: not asked for, or no GPU

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """What would be served, as far as it is known."""
        return self.planned.deployments if isinstance(self.planned, Planned) else ()

    @property
    def missing_weights(self) -> Mapping[str, int] | None:
        """Bytes to fetch by checkpoint label; None while there is no plan."""
        return self.planned.missing_weights if isinstance(self.planned, Planned) and self.planned.plan else None
