"""Who answers: from a name to the replicas that may, and to the one that should. Pure."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from selfhost.gateway.openai import ApiError, model_not_found, unavailable
from selfhost.planner.routing import ReplicaState, RoutingTable, ServedModel, Upstream

# From nearly there to hopeless: the replica that a waiting client should hear about, and when to come back.
_OUTLOOK: dict[ReplicaState, int] = {
    ReplicaState.READY: 1,
    ReplicaState.WARMING: 2,
    ReplicaState.LOADING: 10,
    ReplicaState.STARTING: 10,
    ReplicaState.PULLING: 30,
    ReplicaState.QUEUED: 30,
    ReplicaState.BACKOFF: 30,
    ReplicaState.DRAINING: 30,
    ReplicaState.HOST_FAULT: 300,
    ReplicaState.FAILED: 300,
}
_NEAREST_FIRST = list(_OUTLOOK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a name stands for at this moment."""

    model: ServedModel
    ready: tuple[Upstream, ...]


class Directory:
    """A routing table, looked up by every name that clients may use."""

    def __init__(self, table: RoutingTable) -> None:
        self.table = table
        self._targets: dict[str, Target] = {}
        for model in table.models:
            ready = tuple(upstream for upstream in model.upstreams if upstream.state is ReplicaState.READY)
            target = Target(model=model, ready=ready)
            for name in (model.name, *model.aliases):
                self._targets.setdefault(name, target)

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may use, each model's own name before its aliases."""
        return tuple(self._targets)

    def find(self, name: str) -> Target:
        """What `name` stands for; raises the 404 that lists the known names."""
        target = self._targets.get(name)
        if target is None:
            raise model_not_found(name, self.names)
        return target


def least_loaded(loads: Sequence[int], turn: int) -> int:
    """The place of the smallest load; among equals the first one at or after `turn`, so that ties go round."""
    least = min(loads)
    if loads.count(least) == 1:
        return loads.index(least)
    return next(place % len(loads) for place in itertools.count(turn) if loads[place % len(loads)] == least)


def not_ready(model: ServedModel) -> ApiError:
    """Why nobody answers for `model`, told by the replica that is nearest to ready."""
    if not model.upstreams:
        return unavailable(f"model '{model.name}' has no replica", code="model_not_ready", retry_after_seconds=30)
    nearest = min(model.upstreams, key=lambda upstream: _NEAREST_FIRST.index(upstream.state))
    message = f"model '{model.name}' is {nearest.state.value}" + (f": {nearest.cause}" if nearest.cause else "")
    return unavailable(message, code="model_not_ready", retry_after_seconds=_OUTLOOK[nearest.state])
