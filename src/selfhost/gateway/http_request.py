"""Bytes from a client become requests, under rules strict enough that nobody in front of us reads them otherwise.

llhttp refuses most of what makes two parsers disagree (two lengths, length and chunks, bare line feeds, folded headers,
bad chunk sizes); the rest of the rules are here. Knows nothing of sockets: bytes in, requests out.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace

import httptools

from selfhost.gateway.limits import Limits
from selfhost.gateway.openai import ApiError, bad_request

# The only headers that are read. Twice the same one is refused: who else would read which of the two?
_READ = frozenset({b"authorization", b"content-length", b"expect", b"host", b"origin", b"transfer-encoding"})

OTHER = "other"  # the route of what is none of ours
_TLS = b"\x16\x03"  # a handshake record
_HTTP_2 = b"PRI"  # the method of the preface (RFC 9113 3.4)


class Phase(Enum):
    """How far the next request has come."""

    IDLE = "idle"  # nothing of it
    HEAD = "head"
    BODY = "body"


class Request:
    """One request, and what becomes of it (the second half is for the access log and the metrics)."""

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.path = b""
        self.query = b""
        self.version = ""
        self.headers: dict[bytes, bytes] = {}  # those of _READ, in lower case
        self.content_length = 0  # as announced; 0 also for a body in chunks
        self.keep_alive = False
        self.body = b""
        self.refusal: ApiError | None = None  # why it will not be done; decided before its body is read

        self.id = b""
        self.started = 0.0
        self.route = OTHER
        self.key: str | None = None
        self.model = ""
        self.replica = ""
        self.first_byte: float | None = None
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.failure: str | None = None

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        return self.content_length > 0 or b"transfer-encoding" in self.headers


class RequestParser:
    """Requests in the order in which they were sent, with `admit` asked about each before its body is read.

    `admit` raises `ApiError` for a request that will not be done. Such a request still comes out, with its `refusal`.
    After one whose body was left unread, or one that broke the rules, the parser is `closed`: where the next request
    would begin is unknown, or anybody's guess.
    """

    def __init__(self, limits: Limits, admit: Callable[[Request], None]) -> None:
        self.requests: deque[Request] = deque()
        self.phase = Phase.IDLE
        self.closed = False
        self.unread = False  # closed in the middle of something: the client may still be sending it
        self._limits = limits
        self._admit = admit
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._headers = 0
        self._upgrading = False
        self._advanced = False  # whether this piece of data brought a part of a body or the end of a request
        self._dry_bytes = 0  # bytes since one did

    def feed(self, data: bytes) -> None:
        """Parse what came; whole requests are then in `requests`."""
        if self.closed:
            return
        self._advanced = False
        began = self.phase
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            raise  # a defect of ours
        except httptools.HttpParserError as error:
            if self._parser.get_method() == _HTTP_2:
                self._refuse(bad_request("HTTP/2 is not spoken here; use HTTP/1.1", code="http2_not_supported"))
            elif began is Phase.IDLE and data.startswith(_TLS):
                self._refuse(bad_request("HTTPS is not spoken here; use http://", code="https_not_supported"))
            else:
                self._refuse_framing(f"not a valid HTTP request: {error}")
        if self._advanced:
            self._dry_bytes = 0
            return
        self._dry_bytes += len(data)
        if self._dry_bytes > self._limits.head_bytes:
            self._refuse_head()

    def time_out(self) -> None:
        """Give up on the request that is only partly here."""
        self._refuse(ApiError(408, "the request did not arrive in time", code="request_timeout"))

    def owes_continue(self) -> bool:
        """Whether the client waits for a `100 Continue` before it sends its body; true once per request."""
        expected = self._request.headers.pop(b"expect", None) is not None
        return expected and self.phase is Phase.BODY and self._request.version == "1.1"

    def close(self) -> None:
        """Take no more. Frees llhttp's parser, which refers back to us."""
        self.closed = True
        self.requests.clear()
        del self._parser

    # what llhttp calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.phase = Phase.HEAD
        self._request = Request()
        self._body_bytes = self._head_bytes = self._headers = 0

    def on_url(self, part: bytes) -> None:
        """The request target, or a piece of it."""
        self._request.target += part
        self._head_bytes += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header, or a trailer: those come too late to be believed."""
        if self.phase is not Phase.HEAD:
            return
        self._headers += 1
        self._head_bytes += len(name) + len(value) + 4
        name = name.lower()
        if name in _READ:
            if name in self._request.headers:
                self._refuse_framing(f"two {name.decode()} headers")
            self._request.headers[name] = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        """The whole head: the moment to decide."""
        if self.closed:
            return
        self.phase = Phase.BODY
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        request.path, _, request.query = request.target.partition(b"?")
        self._upgrading = parser.should_upgrade()
        # an HTTP/1.0 client need not know keep-alive; after a declined upgrade a new connection is the clearer start
        request.keep_alive = request.version == "1.1" and parser.should_keep_alive() and not self._upgrading
        try:
            self._check_head(request)
        except ApiError as refusal:
            self._refuse(refusal)
            return
        try:
            self._admit(request)
            if request.content_length > self._limits.body_bytes:
                raise self._too_large()
        except ApiError as refusal:
            if request.has_body or self._upgrading:
                self._refuse(refusal)
            else:
                request.refusal = refusal

    def on_body(self, data: bytes) -> None:
        """A piece of the body, free of its framing."""
        self._advanced = True
        if self.closed:
            return
        self._body_bytes += len(data)
        self._body.append(data)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(self._too_large())

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._advanced = True
        if self.closed or self._upgrading:
            return
        request = self._request
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.phase = Phase.IDLE
        self.closed = not request.keep_alive
        self.requests.append(request)

    # what follows from it

    def _check_head(self, request: Request) -> None:
        """What llhttp lets pass and others may read otherwise (RFC 9112 2.3, 3.2, 6.1), and what is simply too much."""
        if self._head_bytes > self._limits.head_bytes or self._headers > self._limits.header_count:
            raise _headers_too_large()
        if request.version not in {"1.1", "1.0"}:
            raise _bad_http("only HTTP/1.1 and HTTP/1.0 are spoken here")
        headers = request.headers
        request.content_length = int(headers.get(b"content-length", 0))
        if request.version == "1.1" and b"host" not in headers:
            raise _bad_http("the Host header is missing")
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or request.version == "1.0"):
            raise _bad_http("'chunked' is the only transfer coding that is accepted, and only in HTTP/1.1")
        expectation = headers.get(b"expect")
        if expectation is not None and expectation.lower() != b"100-continue":
            raise ApiError(417, "'100-continue' is the only expectation that can be met", code="expectation_failed")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1, as a server may (RFC 9110 7.8): Java's client offers h2c with its first request.

        llhttp takes what follows the head for another protocol and would skip the body. So a fresh parser, told nothing
        but how the body is framed, reads it.
        """
        if self.closed:
            return
        framing = b"Content-Length: %d\r\n" % self._request.content_length
        if b"transfer-encoding" in self._request.headers:
            framing = b"Transfer-Encoding: chunked\r\n"
        self._upgrading = False
        callbacks = SimpleNamespace(on_body=self.on_body, on_message_complete=self.on_message_complete)
        self._parser = httptools.HttpRequestParser(callbacks)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n%b\r\n" % framing)
        self.feed(rest)

    def _refuse_framing(self, problem: str) -> None:
        self._refuse(_bad_http(problem))

    def _refuse_head(self) -> None:
        self._refuse(_headers_too_large())

    def _refuse(self, refusal: ApiError) -> None:
        """Answer the request at hand with a refusal, and nothing after it."""
        if self.closed:
            return
        if self.phase is Phase.IDLE:  # nonsense where the next request should begin
            self._request = Request()
        self.closed = self.unread = True
        self._body.clear()
        self._request.refusal = refusal
        self._request.keep_alive = False
        self.requests.append(self._request)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._limits.body_bytes} bytes", code="body_too_large")


def _bad_http(problem: str) -> ApiError:
    return bad_request(problem, code="bad_http")


def _headers_too_large() -> ApiError:
    return ApiError(431, "the request's headers are too large", code="headers_too_large")
