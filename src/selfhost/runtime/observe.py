"""What is there, for reconcile: the running processes, the engine's environment, the weights."""

from dataclasses import replace
from pathlib import Path

from selfhost.engines import discover
from selfhost.engines.environment import EngineEnvironment
from selfhost.planner.plan import EngineBuild, Plan
from selfhost.planner.reconcile import ObservedState
from selfhost.runtime.status import ManagerStatus
from selfhost.weights import missing_bytes


def find_engine(engine: EngineBuild) -> EngineEnvironment | None:
    """The environment of `engine`, if it is there; raises `SelfhostError` when the manifest names one that is wrong."""
    python = Path(engine.python) if engine.python else None
    return discover.find(engine.vllm_version, engine.variant or engine.platform, python=python)


def observe(plan: Plan, status: ManagerStatus | None) -> ObservedState:
    """A snapshot of everything that `plan` is about; `status` is the manager's, None when none runs."""
    checkpoints = {deployment.checkpoint.label: deployment.checkpoint for deployment in plan.deployments}
    return replace(
        status.observed() if status else ObservedState(),
        engine_installed=find_engine(plan.engine) is not None,
        missing_weights={label: missing_bytes(checkpoint) for label, checkpoint in checkpoints.items()},
    )


def refresh(observed: ObservedState, status: ManagerStatus) -> ObservedState:
    """`observed` with what the manager runs as it is now."""
    return replace(
        status.observed(), engine_installed=observed.engine_installed, missing_weights=observed.missing_weights
    )
