"""One client's connection: its requests in order, each answered before the next is begun."""

import asyncio
import logging
import math
import time
from enum import Enum
from typing import cast

from selfhost.gateway import http_response
from selfhost.gateway.http_interfaces import Host, Relay
from selfhost.gateway.http_request import Phase, Request, RequestParser
from selfhost.gateway.http_response import Response
from selfhost.gateway.openai import ApiError

CLIENT_GONE = 499  # nginx's number for a client that left before its answer was complete: counted, never sent


_log = logging.getLogger("selfhost.gateway")


class State(Enum):
    """What a connection is about."""

    READING = "reading"  # waits for a request, or for the rest of one
    ANSWERING = "answering"
    CLOSING = "closing"  # has said its last word


class Connection(asyncio.Protocol):
    """One client: its requests in order, each answered before the next is begun."""

    def __init__(self, server: Host) -> None:
        self.server = server
        self._parser = RequestParser(server.limits, self._admit)
        self._state = State.READING
        self._waits_for: Phase | None = Phase.HEAD  # what `deadline` is about; silence after connecting is a late head
        self._surplus = False
        self._advancing = False
        self._choked = False  # the client does not take its answers; no more are given meanwhile
        self._chunked = False
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._unsent_bytes = 0
        self._request = Request()
        self._relay: Relay | None = None
        self.deadline = 0.0

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.server.limits.unsent_bytes)
        self._surplus = not self.server.enter(self)
        self.wait(self.server.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        if self._state is State.READING and not self._choked:
            self._parser.feed(data)
            self._advance()
        elif self._state is not State.CLOSING:
            self._stash(data)

    def eof_received(self) -> None:
        """Part of `asyncio.Protocol`; the transport closes after it.

        A client that has closed and one that has closed only its sending half look the same from here. Like nginx and
        vLLM we take both for gone: an engine that works for nobody costs more than a half-closing client is worth.
        """
        if self._state is State.ANSWERING:
            self._abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        del exc
        if self._state is State.ANSWERING:
            self._abandon()
        self._state = State.CLOSING
        self._parser.close()
        self.server.leave(self)

    def pause_writing(self) -> None:
        """Part of `asyncio.Protocol`: more than `unsent_bytes` wait for the client to take them."""
        self._choked = True
        self.wait(self.server.limits.stall_seconds)
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self._choked = False
        if self._relay is not None:
            self._relay.resume()
        else:
            self._waits_for = None
            self._advance()

    # what the application calls

    def attach(self, relay: Relay) -> None:
        """The request at hand will be answered by `relay`."""
        self._relay = relay

    def wait(self, seconds: float) -> None:
        """Something must happen on this connection within `seconds`."""
        self.deadline = time.monotonic() + seconds

    def respond(self, response: Response) -> None:
        """Give the whole answer to the request at hand."""
        request = self._request
        keep_alive = self._keeps_alive()
        with_body = request.method != b"HEAD"
        self._transport.write(
            http_response.render(response, request_id=request.id, keep_alive=keep_alive, with_body=with_body)
        )
        self._finish(response.status, keep_alive=keep_alive)

    def open_stream(self, content_type: bytes) -> None:
        """Begin an answer whose length nobody knows yet."""
        request = self._request
        self._chunked = request.version == "1.1"
        self._transport.write(
            http_response.render_stream_head(
                content_type=content_type,
                request_id=request.id,
                chunked=self._chunked,
                keep_alive=self._chunked and self._keeps_alive(),
            )
        )

    def send(self, data: bytes) -> None:
        """Go on with the stream."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end_stream(self) -> None:
        """The stream is complete."""
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._finish(200, keep_alive=self._chunked and self._keeps_alive())

    def break_stream(self) -> None:
        """The stream failed: close without its final chunk, so that nobody takes it for whole."""
        self._finish(200, keep_alive=False)

    # what the server calls

    def expire(self) -> None:
        """The deadline has passed."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes not in {0, self._unsent_bytes}:  # slow, but the client does take what it gets
            self._unsent_bytes = unsent_bytes
            self.wait(self.server.limits.stall_seconds)
        elif unsent_bytes or self._state is State.CLOSING:
            self._transport.abort()
        elif self._state is State.ANSWERING:
            self.cut(ApiError(504, "the engine did not answer in time", code="engine_timeout"))
        elif self._parser.phase is Phase.IDLE:
            self._close()
        else:
            self._parser.time_out()
            self._advance()

    def retire(self) -> None:
        """Close, unless a request is being answered or on its way: its answer will close."""
        if self._state is State.READING and self._parser.phase is Phase.IDLE:
            self._close()

    def cut(self, error: ApiError) -> None:
        """End the answer that is being given with `error`."""
        if self._relay is not None:
            self._relay.fail(error)

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    # one request after the other

    def _admit(self, request: Request) -> None:
        self.server.app.admit(request, room=not self._surplus)

    def _advance(self) -> None:
        """Answer what has arrived, in order, until an engine must be waited for or nothing is left."""
        if self._advancing:
            return  # an answer was given at once: the loop below goes on
        self._advancing = True
        while self._state is State.READING and not self._choked:
            if self._parser.requests:
                self._answer(self._parser.requests.popleft())
            elif self._backlog:
                self._unstash()
            else:
                self._await_more()
                break
        self._advancing = False

    def _answer(self, request: Request) -> None:
        self._state = State.ANSWERING
        self._request = request
        self._waits_for = None
        self.deadline = math.inf
        self.server.begin(request)
        if request.refusal is not None:
            self.respond(request.refusal.response())
            return
        try:
            self.server.app.handle(request, self)
        except ApiError as error:
            self.respond(error.response())
        except Exception:  # noqa: BLE001 (the boundary: a defect costs one request, not its neighbours)
            _log.exception("request %s met a defect of the gateway", request.id.decode())
            if self._relay is not None:
                self._relay.cancel()
            self.respond(ApiError(500, "the gateway failed on this request", code="internal_error").response())

    def _await_more(self) -> None:
        """Set the deadline once for each phase, so that a trickle of bytes does not move it."""
        phase = self._parser.phase
        if phase is self._waits_for:
            return
        self._waits_for = phase
        limits = self.server.limits
        if phase is Phase.IDLE:
            self.wait(limits.keep_alive_seconds)
        elif phase is Phase.HEAD:
            self.wait(limits.head_seconds)
        else:
            self.wait(limits.body_seconds)
            if self._parser.owes_continue():
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _stash(self, data: bytes) -> None:
        self._backlog.append(data)
        self._backlog_bytes += len(data)
        if self._backlog_bytes > self.server.limits.backlog_bytes:
            self._transport.pause_reading()

    def _unstash(self) -> None:
        data = b"".join(self._backlog)
        if self._backlog_bytes > self.server.limits.backlog_bytes:
            self._transport.resume_reading()
        self._backlog.clear()
        self._backlog_bytes = 0
        self._parser.feed(data)

    def _keeps_alive(self) -> bool:
        return self._request.keep_alive and not self.server.draining

    def _finish(self, status: int, *, keep_alive: bool) -> None:
        self._relay = None
        self._state = State.READING
        self.server.app.finished(self._request, status)
        if keep_alive:
            self._advance()
        else:
            self._close()

    def _abandon(self) -> None:
        self._state = State.CLOSING
        self.wait(self.server.limits.linger_seconds)
        if self._relay is not None:
            self._relay.cancel()
            self._relay = None
        self.server.app.finished(self._request, CLIENT_GONE)

    def _close(self) -> None:
        self._state = State.CLOSING
        self._backlog.clear()
        if self._parser.unread and not self._transport.is_closing():
            # to close now would reset the connection under a client that is still sending, and lose it our answer
            self.wait(self.server.limits.linger_seconds)
            self._transport.write_eof()
        else:
            self.wait(self.server.limits.stall_seconds)
            self._transport.close()
