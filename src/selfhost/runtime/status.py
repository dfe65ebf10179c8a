"""What a manager tells about itself: one document for `ps`, `health`, `plan` and programs."""

from dataclasses import dataclass

from selfhost.planner.plan import Plan
from selfhost.planner.reconcile import GIVEN_UP, ObservedReplica, ObservedState
from selfhost.planner.routing import ReplicaState


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One replica: as it was started, and how it is."""

    observed: ObservedReplica
    cause: str
    since: float  # seconds since the epoch
    restarts: int
    hint: str | None
    exit_code: int | None  # what a command that waits for it should end with, once it is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """The front door."""

    address: str
    state: ReplicaState
    cause: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerStatus:
    """Everything about one manager."""

    version: str  # of selfhost
    name: str
    manifest: str  # path of the manifest that was applied last
    pid: int
    started: float  # seconds since the epoch
    working: str  # the step that is being carried out, "" when none is
    plan: Plan | None
    gateway: GatewayStatus | None
    replicas: tuple[ReplicaStatus, ...]

    @property
    def ready(self) -> bool:
        """Every replica of the plan answers, behind an open gateway."""
        return (
            self.plan is not None
            and self.gateway is not None
            and self.gateway.state is ReplicaState.READY
            and all(replica.observed.state is ReplicaState.READY for replica in self.replicas)
        )

    @property
    def given_up(self) -> tuple[ReplicaStatus, ...]:
        """The replicas that will not come up by themselves."""
        return tuple(replica for replica in self.replicas if replica.observed.state in GIVEN_UP)

    def observed(self) -> ObservedState:
        """What reconcile wants to know of the running processes; engine and weights are others' to tell."""
        return ObservedState(
            replicas=tuple(replica.observed for replica in self.replicas),
            gateway=self.plan.gateway if self.plan and self.gateway else None,
            aliases={each.name: each.aliases for each in self.plan.deployments} if self.plan else {},
        )
