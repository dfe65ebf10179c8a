"""All connections of clients, and what holds for all of them: limits, deadlines, identities, the end."""

import asyncio
import secrets
import time

from selfhost.gateway.http_connection import Connection
from selfhost.gateway.http_interfaces import Application
from selfhost.gateway.http_request import Request
from selfhost.gateway.limits import Limits
from selfhost.gateway.openai import unavailable

SURPLUS = 64  # connections over the limit that still get a polite answer


class Server:
    """All connections of clients, and what holds for all of them."""

    def __init__(self, app: Application, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.draining = False
        self.empty = asyncio.Event()  # set when, while draining, the last connection has gone
        self._connections: set[Connection] = set()
        self._ids = secrets.token_hex(4).encode()
        self._count = 0

    def __len__(self) -> int:
        return len(self._connections)

    def enter(self, connection: Connection) -> bool:
        """Count a new connection in; false when it is one too many."""
        self._connections.add(connection)
        if self.draining or len(self._connections) > self.limits.connections + SURPLUS:
            connection.retire()
        return len(self._connections) <= self.limits.connections

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        if self.draining and not self._connections:
            self.empty.set()

    def begin(self, request: Request) -> None:
        """Give a request its identity; what clients call their requests is never used."""
        self._count += 1
        request.id = b"%b-%d" % (self._ids, self._count)
        request.started = time.monotonic()

    def sweep(self) -> None:
        """Act on deadlines that have passed. One pass a few times per second costs less than a timer per request."""
        now = time.monotonic()
        for connection in [connection for connection in self._connections if connection.deadline < now]:
            connection.expire()

    def drain(self) -> None:
        """Finish what is being answered and take no more."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.retire()
        if not self._connections:
            self.empty.set()

    def cut(self) -> None:
        """End what is still being answered."""
        error = unavailable("the gateway is shutting down", code="shutting_down", retry_after_seconds=5)
        for connection in tuple(self._connections):
            connection.cut(error)

    def abort(self) -> None:
        """Let go of clients that do not even take the last word."""
        for connection in tuple(self._connections):
            connection.abort()
