"""Answers as bytes on the wire. Pure."""

from typing import NamedTuple

JSON = b"application/json"

_PHRASES = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in _PHRASES.items()}


class Response(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[str, str], ...] = ()


def render(response: Response, *, request_id: bytes, keep_alive: bool, with_body: bool) -> bytes:
    """A whole answer with its length; only its head when `with_body` is false (HEAD)."""
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b%b\r\n" % (
        status_line(response.status),
        response.content_type,
        len(response.body),
        request_id,
        _render_headers(response.headers) if response.headers else b"",
        b"" if keep_alive else b"connection: close\r\n",
    )
    return head + response.body if with_body else head


def render_stream_head(*, content_type: bytes, request_id: bytes, chunked: bool, keep_alive: bool) -> bytes:
    """The head of an answer of unknown length; without `chunked` (HTTP/1.0) it ends with the connection.

    `x-accel-buffering` keeps an nginx in front of us from collecting events before it passes them on.
    """
    return b"%bcontent-type: %b\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\nx-request-id: %b\r\n%b%b\r\n" % (
        status_line(200),
        content_type,
        request_id,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        b"" if keep_alive else b"connection: close\r\n",
    )


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK`; an engine's rarer status goes without a phrase, which HTTP allows."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def _render_headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
