"""Who answers for which name: what the manager tells the gateway, as one immutable value."""

from dataclasses import dataclass
from enum import StrEnum


class ReplicaState(StrEnum):
    """The life of a replica; the same words in `ps`, logs, `/readyz` and metrics."""

    QUEUED = "queued"
    PULLING = "pulling"
    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    FAILED = "failed"
    HOST_FAULT = "host-fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One replica behind the gateway."""

    replica: str  # "chat/0"
    socket: str  # path of the unix socket on which its engine listens
    state: ReplicaState
    cause: str  # why it is in that state, in the words of `ps`
    since: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One served model: the names clients may use and the replicas that answer."""

    name: str  # what the engine calls it (`--served-model-name`)
    aliases: tuple[str, ...]
    max_model_len: int  # tokens per request
    upstreams: tuple[Upstream, ...]

    @property
    def ready(self) -> bool:
        """Whether at least one replica answers."""
        return any(upstream.state is ReplicaState.READY for upstream in self.upstreams)


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedKey:
    """An API key as it may be written down: never the key itself."""

    name: str
    sha256: str  # 64 lower-case hex digits of the SHA-256 of the whole key


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """Everything the gateway needs to know about what runs."""

    models: tuple[ServedModel, ...]
    keys: tuple[HashedKey, ...] = ()  # keys that the manifest declares by hash
    started: bool = False  # every model has been ready once: the answer of /startupz
