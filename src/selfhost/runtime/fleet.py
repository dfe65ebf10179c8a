"""Everything that runs for one plan, and what the gateway is told about it."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Iterator, Sequence

from pydantic import TypeAdapter

from selfhost import atomic
from selfhost.planner.plan import Plan
from selfhost.planner.reconcile import ObservedReplica
from selfhost.planner.routing import ReplicaState, RoutingTable, ServedModel, Upstream
from selfhost.runtime.events import Event, EventStream, Level
from selfhost.runtime.gateway_process import GatewayFiles, GatewaySupervisor
from selfhost.runtime.ledger import OwnClaims
from selfhost.runtime.replica import DeviceLocks, ReplicaSupervisor
from selfhost.runtime.status import GatewayStatus

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

_table_codec: TypeAdapter[RoutingTable] = TypeAdapter(RoutingTable)


class Fleet:
    """The replicas and the gateway of one manager. Every change of them is told, and published to the gateway."""

    def __init__(self, name: str, events: EventStream) -> None:
        self.name = name
        self.plan: Plan | None = None
        self.replicas: dict[str, ReplicaSupervisor] = {}
        self.gateway: GatewaySupervisor | None = None
        self.api_key = secrets.token_urlsafe(32)  # between gateway and engines
        self.claims = OwnClaims(name)
        self._events = events
        self._files = GatewayFiles(name)
        self._locks = DeviceLocks()
        self._retired: list[GatewaySupervisor] = []  # their address is no longer wanted; their last requests finish
        self._once_ready: set[str] = set()  # the models that have answered

    def open(self) -> None:
        """Make the files through which the gateway learns everything; what a killed manager claimed is forgotten."""
        self.claims.withdraw()
        atomic.write_bytes(self._files.engine_key, self.api_key.encode())

    def close(self) -> None:
        """Remove them, and claim nothing any more."""
        self.claims.withdraw()
        self._files.remove_runtime()

    async def stop(self) -> None:
        """End everything: the front door first, so that what runs can finish; returns when all of it is gone."""
        doors = [*self._retired, *([self.gateway] if self.gateway else [])]
        for door in doors:
            door.close()
        await _all([door.closed() for door in doors])
        await _all([replica.stop("stopping") for replica in self.replicas.values()])

    def hurry(self) -> None:
        """Wait for no request any longer: end everything at once."""
        for door in [*self._retired, *([self.gateway] if self.gateway else [])]:
            door.close(drain=False)
        for replica in self.replicas.values():
            replica.hurry()

    def adopt_plan(self, plan: Plan) -> None:
        """Take `plan` as what is wanted from now on."""
        self.plan = plan
        self.publish()

    def queue(self, name: str) -> None:
        """Have a replica of the plan wait for its turn."""
        if self.plan is None:
            raise RuntimeError("a replica is queued without a plan")
        deployment, replica = next(
            (each, replica) for each in self.plan.deployments for replica in each.replicas if replica.name == name
        )
        self.claims.gone(name)
        self.replicas[name] = ReplicaSupervisor(
            self.name, self.plan.engine, deployment, replica, api_key=self.api_key, locks=self._locks, tell=self.tell
        )
        self.publish()

    def forget(self, name: str) -> None:
        """Drop a replica of which nothing runs any more."""
        del self.replicas[name]
        self.claims.gone(name)
        self.publish()

    def observed(self) -> tuple[ObservedReplica, ...]:
        """The replicas as they were started, and how they are."""
        return tuple(replica.status().observed for replica in self.replicas.values())

    def is_planned(self, name: str) -> bool:
        """Whether the plan wants a replica of this name."""
        return self.plan is not None and any(
            replica.name == name for each in self.plan.deployments for replica in each.replicas
        )

    def forget_queued(self) -> None:
        """Drop the replicas that wait for a turn which will not come."""
        for name in [name for name, replica in self.replicas.items() if not replica.begun]:
            del self.replicas[name]

    def waiting_for(self, checkpoint: str) -> Iterator[ReplicaSupervisor]:
        """The queued replicas that need the checkpoint of this label."""
        return (
            replica
            for replica in self.replicas.values()
            if replica.deployment.checkpoint.label == checkpoint and not replica.begun
        )

    def open_gateway(self, listener: socket.socket) -> None:
        """Open the front door on `listener`; one at another address lets its requests finish and closes."""
        if self.plan is None:
            raise RuntimeError("a gateway is opened without a plan")
        if self.gateway:
            self.gateway.close()
            self._retired.append(self.gateway)
        self.gateway = GatewaySupervisor(self.name, self.plan.gateway, listener, self._files, tell=self.tell)

    def gateway_status(self) -> GatewayStatus | None:
        """How the front door is; None before there is one."""
        gateway = self.gateway
        if gateway is None:
            return None
        return GatewayStatus(
            address=gateway.plan.address, state=gateway.state, cause=gateway.cause, since=gateway.since
        )

    def tell(self, event: Event) -> None:
        """Tell everybody what happened; the gateway too when it is about a replica."""
        if event.subject in self.replicas:
            self.publish()
        self._events.emit(event)
        if event.level is not Level.PROGRESS:
            level = logging.ERROR if event.level is Level.ERROR else logging.INFO
            log.log(level, "%s %s: %s", event.subject, event.state, event.cause)

    def publish(self) -> None:
        """Write the routing table for the gateway, and the claims for other managers."""
        if self.plan is None:
            return
        replicas = self.replicas.values()
        self._once_ready |= {each.deployment.name for each in replicas if each.state is ReplicaState.READY}
        table = RoutingTable(
            models=tuple(
                ServedModel(
                    name=deployment.name,
                    aliases=deployment.aliases,
                    max_model_len=deployment.max_model_len,
                    upstreams=tuple(
                        _upstream(replica) for replica in replicas if replica.deployment.name == deployment.name
                    ),
                )
                for deployment in self.plan.deployments
            ),
            keys=self.plan.gateway.keys,
            started=self._once_ready >= {deployment.name for deployment in self.plan.deployments},
        )
        try:
            atomic.write_bytes(self._files.table, _table_codec.dump_json(table))
            self.claims.update(self.observed())
        except OSError as error:  # a full disk must not end the supervision; others go by what they have
            log.warning("cannot tell the gateway and other managers what runs: %s; trying again", error)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self.publish)


async def _all(ends: Sequence[Awaitable[None]]) -> None:
    """Wait for every one of `ends`; what fails is logged and hinders none of the others."""
    for result in await asyncio.gather(*ends, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("an end failed", exc_info=result)


def _upstream(replica: ReplicaSupervisor) -> Upstream:
    return Upstream(
        replica=replica.replica.name,
        socket=replica.socket,
        state=replica.state,
        cause=replica.cause,
        since=replica.since,
    )
