"""One request on its way to an engine, and the engine's answer on its way to the client."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from selfhost.gateway.answer import Usage, engine_died, judge
from selfhost.gateway.http_client import Pool, Pools, UpstreamConnection
from selfhost.gateway.http_connection import Connection
from selfhost.gateway.http_request import Request
from selfhost.gateway.limits import Limits
from selfhost.gateway.metrics import Metrics
from selfhost.gateway.openai import ApiError, EngineBody, unavailable
from selfhost.gateway.routing import Target, least_loaded
from selfhost.gateway.sse import EventFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """What all relays share."""

    key: bytes  # the internal key; clients never see it, engines see no other
    limits: Limits
    metrics: Metrics
    pools: Pools
    turns: "itertools.count[int]" = field(default_factory=itertools.count)

    def message(self, request: Request, body: bytes) -> bytes:
        """The request as the engine gets it: every header is ours, none is the client's.

        With `x-request-id` vLLM calls the request as we do, whatever `request_id` the body asks for.
        """
        return (
            b"POST %b HTTP/1.1\r\nhost: engine\r\nauthorization: Bearer %b\r\ncontent-type: application/json\r\n"
            b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (request.path, self.key, request.id, len(body), body)
        )


class Relay:
    """Carries one request to a replica and its answer back.

    Another replica is tried only while none has got the request (nobody listens on the socket), the same one only when
    a kept-alive connection had been closed before the engine read anything. A request that was in flight when an engine
    died is never sent again: it may be what killed it.

    Nothing reaches the client before it is known to be good: the head of a stream goes out with its first whole event,
    an answer that is not streamed when it is complete. Whatever fails before that gets an honest status.
    """

    def __init__(
        self, engines: Engines, client: Connection, request: Request, target: Target, body: EngineBody
    ) -> None:
        self._engines = engines
        self._client = client
        self._request = request
        self._target = target
        self._message = engines.message(request, body.body)
        self._hide_usage = body.usage_added
        self._expires = request.started + engines.limits.total_seconds
        self._refused: list[str] = []  # sockets on which nobody listens
        self._pool: Pool | None = None  # where this request counts as in flight
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._filter: EventFilter | None = None  # once the answer turned out to be a stream
        self._parts: list[bytes] = []  # of an answer that is not
        self._parts_bytes = 0
        self._opened = False  # the client has got the head of a stream
        self._paused = False
        self._finished = False

    def start(self) -> None:
        """Send the request to the least loaded replica that is ready."""
        self._client.attach(self)
        self._await_more()
        self._dispatch()

    # what the client's connection calls

    def cancel(self) -> None:
        """The client is gone: closing the connection is how an engine learns to stop."""
        self._finish()

    def fail(self, error: ApiError) -> None:
        """The answer takes too long, or the gateway must end."""
        if self._filter is None:
            self._fail(error, b"")
        elif self._filter.done:
            self._complete(self._filter)  # all that is missing is the end of the connection
        else:
            self._fail(error, self._filter.fail(error))

    def pause(self) -> None:
        """The client takes its answer more slowly than it comes: let the engine wait."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        self._await_more()
        if self._upstream is not None:
            self._upstream.resume()

    # what the engine's connection calls

    def received(self, upstream: UpstreamConnection, body: bytes, *, complete: bool) -> None:
        """A part of the answer, or the last of it."""
        request = self._request
        if request.first_byte is None:
            request.first_byte = time.monotonic()
            self._message = b""
            if upstream.status == 200 and upstream.content_type.startswith(b"text/event-stream"):
                self._filter = EventFilter(hide_usage=self._hide_usage, limit=self._engines.limits.answer_bytes)
        if complete:
            self._upstream = None  # it belongs to its pool again
        if self._filter is not None:
            self._pass_events(self._filter, upstream.content_type, body, complete=complete)
        else:
            self._collect(upstream, body, complete=complete)

    def overflowed(self, upstream: UpstreamConnection) -> None:
        """The engine's headers were too large."""
        del upstream
        self._upstream = None
        self.fail(ApiError(502, "the headers of the engine's answer are too large", code="answer_too_large"))

    def lost(self, upstream: UpstreamConnection, *, unread: bool) -> None:
        """The connection ended before the answer did."""
        self._upstream = None
        if unread and upstream.used and self._message:
            self._leave_pool()
            self._dispatch()
        else:
            self.fail(engine_died())

    # the way there

    def _dispatch(self) -> None:
        pools = self._engines.pools
        ready = self._target.ready
        if self._refused:
            ready = tuple(upstream for upstream in ready if upstream.socket not in self._refused)
        if not ready:
            self.fail(_nobody_listens(self._target.model.name))
            return
        loads = [pools[upstream.socket].in_flight for upstream in ready]
        chosen = ready[least_loaded(loads, next(self._engines.turns))]
        self._request.replica = chosen.replica
        self._pool = pool = pools[chosen.socket]
        pool.in_flight += 1
        connection = pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(pool, chosen.socket))

    async def _connect(self, pool: Pool, socket_path: str) -> None:
        try:
            connection = await pool.connect()
        except OSError:
            self._engines.metrics.upstream_failed(self._target.model.name, "connect_failed")
            if not self._finished:
                self._leave_pool()
                self._refused.append(socket_path)
                self._dispatch()
            return
        if self._finished:  # the client left meanwhile
            pool.give_back(connection, reusable=True)
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._upstream = connection
        if self._paused:
            connection.pause()
        connection.send(self._message, self)
        if not connection.used:
            self._message = b""  # it will not be sent again

    # the way back

    def _pass_events(self, events: EventFilter, content_type: bytes, body: bytes, *, complete: bool) -> None:
        passed = events.feed(body) if body else b""
        if complete:
            passed += events.end()
        if events.failure is not None:
            self._fail(events.failure, passed)
            return
        if passed:
            if not self._opened:
                self._opened = True
                self._client.open_stream(content_type)
            self._client.send(passed)
        if complete:
            self._complete(events)
        elif not self._paused:
            self._await_more()

    def _complete(self, events: EventFilter) -> None:
        self._finish(events.usage)
        self._client.end_stream()

    def _collect(self, upstream: UpstreamConnection, body: bytes, *, complete: bool) -> None:
        self._parts.append(body)
        self._parts_bytes += len(body)
        if self._parts_bytes > self._engines.limits.answer_bytes:
            self.fail(ApiError(502, "the engine's answer is too large", code="answer_too_large"))
        elif not complete:
            self._await_more()
        else:
            verdict = judge(upstream.status, upstream.content_type, b"".join(self._parts))
            if verdict.failure is not None:
                self._note(verdict.failure)
            self._finish(verdict.usage)
            self._client.respond(verdict.response)

    def _await_more(self) -> None:
        limits = self._engines.limits
        seconds = limits.first_byte_seconds if self._request.first_byte is None else limits.stream_idle_seconds
        self._client.wait(min(seconds, self._expires - time.monotonic()))

    def _fail(self, error: ApiError, last_event: bytes) -> None:
        self._note(error)
        self._finish(self._filter.usage if self._filter is not None else None)
        if not self._opened:
            self._client.respond(error.response())
            return
        if last_event:
            self._client.send(last_event)
        self._client.break_stream()

    def _note(self, error: ApiError) -> None:
        self._request.failure = error.code
        self._engines.metrics.upstream_failed(self._target.model.name, error.code)

    def _finish(self, usage: Usage | None = None) -> None:
        """Let go of the engine; the client's connection may begin its next request as soon as it has its answer."""
        self._finished = True
        self._leave_pool()
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None
        if usage is not None:
            self._request.prompt_tokens, self._request.completion_tokens = usage

    def _leave_pool(self) -> None:
        if self._pool is not None:
            self._pool.in_flight -= 1
            self._pool = None


def _nobody_listens(model: str) -> ApiError:
    message = f"model '{model}' is not reachable: its engine accepts no connections"
    return unavailable(message, code="model_not_reachable", retry_after_seconds=5)
