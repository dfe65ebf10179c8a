"""The engines' side: keep-alive connections to each replica's unix socket."""

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol, cast

import httptools

# Less than the 5 s after which uvicorn, inside vLLM, closes an idle connection: so it is we who close it, and a
# request does not meet a connection that is just going away.
_IDLE_SECONDS = 4.0
_DIALS, _DIAL_SECONDS = 100, 0.02  # a burst may exceed the backlog, which is 128 where net.core.somaxconn is old


class Receiver(Protocol):
    """Whoever waits for an engine's answer."""

    def received(self, upstream: "UpstreamConnection", body: bytes, *, complete: bool) -> None:
        """A part of the answer; its status and content type are known by then."""

    def overflowed(self, upstream: "UpstreamConnection") -> None:
        """The headers were too large; the connection is closed."""

    def lost(self, upstream: "UpstreamConnection", *, unread: bool) -> None:
        """The connection ended before the answer was complete; `unread`: before the engine had read the request."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an engine: one request at a time."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._body: list[bytes] = []
        self._head_bytes = 0  # of the headers, as llhttp hands them over
        self._dry_bytes = 0  # since the last piece of a body: a header that never ends is not handed over
        self._answered = False
        self._complete = False
        self._reusable = False
        self.status = 0
        self.content_type = b""
        self.used = False  # it has carried an answer before
        self.idle_since = 0.0

    def send(self, message: bytes, receiver: Receiver) -> None:
        """Send a whole request; its answer goes to `receiver`."""
        self._receiver = receiver
        self._answered = self._complete = False
        self._head_bytes = self._dry_bytes = 0
        self.status = 0
        self.content_type = b""
        self._transport.write(message)

    def pause(self) -> None:
        """Let the engine wait."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Let the engine go on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once: an engine that sees its client go stops working on the answer."""
        self._receiver = None
        self._transport.abort()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        receiver = self._receiver
        if receiver is None:  # nobody asked
            self.abort()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a defect of ours
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            if not self._complete:  # what follows a whole answer does not spoil it
                self.abort()
                receiver.lost(self, unread=False)
                return
        # all chunks of one read together: one look at the events in them, one write to the client
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._dry_bytes = 0 if body or self._complete else self._dry_bytes + len(data)
        if max(self._head_bytes, self._dry_bytes) > self._pool.head_limit:
            self.abort()
            receiver.overflowed(self)
        elif self._complete:
            self._receiver = None
            self._pool.give_back(self, reusable=self._reusable)
            receiver.received(self, body, complete=True)
        elif body:
            receiver.received(self, body, complete=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        self._pool.forget(self)
        receiver, self._receiver = self._receiver, None
        del self._parser  # it refers back to us
        if receiver is not None:
            # A unix socket says "reset" only when its other end closed with our bytes still in its queue; an engine
            # that had read them all and then died leaves a plain end of file.
            unread = not self._answered and isinstance(exc, ConnectionResetError | BrokenPipeError)
            receiver.lost(self, unread=unread)

    # what llhttp calls; one read may hold more than the answer

    def on_message_begin(self) -> None:
        """The first byte of an answer; after a whole one, of one that nobody asked for."""
        self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only the content type is of interest: everything else is between the engine and us."""
        if self._complete:
            return
        self._head_bytes += len(name) + len(value) + 4
        if len(name) == 12 and name.lower() == b"content-type":
            self.content_type = value

    def on_headers_complete(self) -> None:
        """The status line and all headers are in."""
        if not self._complete:
            self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The answer is complete, unless it was an interim one."""
        if self.status >= 200 and not self._complete:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()


class Pool:
    """The connections to one replica, and how many requests it is working on for us."""

    def __init__(self, socket_path: str, *, head_limit: int) -> None:
        self.in_flight = 0
        self.head_limit = head_limit  # bytes
        self._socket_path = socket_path
        self._idle: dict[UpstreamConnection, None] = {}  # in the order in which they became idle
        self._retired = False

    def take(self) -> UpstreamConnection | None:
        """An idle connection, the last used first."""
        return self._idle.popitem()[0] if self._idle else None

    async def connect(self) -> UpstreamConnection:
        """A new connection; raises `OSError` when nobody listens."""
        loop = asyncio.get_running_loop()
        for _ in range(_DIALS):
            try:
                _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self), self._socket_path)
            except BlockingIOError:  # its backlog is full: it lives, and is behind with accepting
                await asyncio.sleep(_DIAL_SECONDS)
            else:
                return connection
        raise TimeoutError(f"{self._socket_path} does not accept connections")

    def give_back(self, connection: UpstreamConnection, *, reusable: bool) -> None:
        """The connection has carried a whole answer."""
        if self._retired or not reusable:
            connection.abort()
            return
        connection.used = True
        connection.idle_since = time.monotonic()
        self._idle[connection] = None

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection has ended."""
        self._idle.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Close what has been idle for long."""
        for connection in [idle for idle in self._idle if now - idle.idle_since > _IDLE_SECONDS]:
            del self._idle[connection]
            connection.abort()

    def retire(self) -> None:
        """No new requests; those that are running finish."""
        self._retired = True
        while (connection := self.take()) is not None:
            connection.abort()


class Pools:
    """One pool for each replica of the routing table, known by its socket."""

    def __init__(self, *, head_limit: int) -> None:
        self._head_limit = head_limit
        self._pools: dict[str, Pool] = {}

    def __getitem__(self, socket_path: str) -> Pool:
        pool = self._pools.get(socket_path)
        if pool is None:
            pool = self._pools[socket_path] = Pool(socket_path, head_limit=self._head_limit)
        return pool

    def keep_only(self, socket_paths: Iterable[str]) -> None:
        """Let go of replicas that have left the table."""
        for path in self._pools.keys() - set(socket_paths):
            self._pools.pop(path).retire()

    def sweep(self) -> None:
        """Close what has been idle for long."""
        now = time.monotonic()
        for pool in self._pools.values():
            pool.sweep(now)
