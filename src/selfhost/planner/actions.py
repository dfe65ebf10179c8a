"""What must be done to make a plan true. Each action is one step of the executor, and says why it is needed."""

from dataclasses import dataclass
from typing import Literal

from selfhost.catalog.model import CheckpointRef
from selfhost.planner.plan import EngineBuild


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallEngine:
    """Build the engine's environment."""

    kind: Literal["install"] = "install"
    engine: EngineBuild
    needs_compiler: bool  # some engine compiles kernels when it starts
    cause: str

    @property
    def resource(self) -> str:
        """What it acts on."""
        return self.engine.label


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchWeights:
    """Bring a checkpoint onto this machine."""

    kind: Literal["fetch"] = "fetch"
    checkpoint: CheckpointRef
    cause: str

    @property
    def resource(self) -> str:
        """What it acts on."""
        return self.checkpoint.label


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReplica:
    """Drain a replica and end its processes."""

    kind: Literal["stop"] = "stop"
    replica: str
    cause: str

    @property
    def resource(self) -> str:
        """What it acts on."""
        return self.replica


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReplica:
    """Start a replica's engine and prove that it answers."""

    kind: Literal["start"] = "start"
    replica: str
    cause: str

    @property
    def resource(self) -> str:
        """What it acts on."""
        return self.replica


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeGateway:
    """Open the front door at this address (closing it at another one), or tell it what changed."""

    kind: Literal["serve"] = "serve"
    address: str  # "127.0.0.1:8000"
    cause: str

    @property
    def resource(self) -> str:
        """What it acts on."""
        return f"gateway {self.address}"


Action = InstallEngine | FetchWeights | StopReplica | StartReplica | ServeGateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An action in its place: it begins when all the steps in `after` have succeeded."""

    number: int  # from 1
    action: Action
    after: tuple[int, ...]
