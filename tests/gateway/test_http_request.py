import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.corpus import CHUNKED, HEAD, REFUSED
from selfhost.gateway.http_request import Request, RequestParser
from selfhost.gateway.limits import Limits
from selfhost.gateway.openai import ApiError


def everybody(request: Request) -> None:
    del request


def parser(admit=everybody, **limits) -> RequestParser:
    return RequestParser(Limits(**limits), admit)


def feed(data: bytes, *, at_once: bool = True) -> RequestParser:
    requests = parser()
    for piece in [data] if at_once else [data[place : place + 1] for place in range(len(data))]:
        requests.feed(piece)
    return requests


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("case", REFUSED)
def test_what_could_be_read_in_two_ways_is_read_in_none(case: str, at_once) -> None:
    requests = feed(REFUSED[case] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", at_once=at_once)
    *whole, refused = requests.requests
    assert whole == []
    assert refused.refusal is not None
    assert (refused.refusal.status, requests.closed) == (400, True)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "data, bodies",
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc", [b"abc"]),
        (HEAD + b"Content-Length: 0\r\n\r\n", [b""]),
        (HEAD + b"content-length:3 \r\n\r\nabc", [b"abc"]),
        (CHUNKED + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n", [b"abcde"]),
        (CHUNKED.replace(b"chunked", b"Chunked") + b"0\r\n\r\n", [b""]),
        (b"\r\n" + HEAD + b"\r\n" + HEAD + b"\r\n", [b"", b""]),
        ((HEAD + b"Content-Length: 1\r\n\r\nx") * 3, [b"x", b"x", b"x"]),
        (b"GET / HTTP/1.0\r\n\r\n", [b""]),
    ],
)
def test_honest_requests_come_through(data: bytes, bodies: list[bytes], at_once) -> None:
    got = feed(data, at_once=at_once).requests
    assert [request.body for request in got] == bodies
    assert all(request.refusal is None for request in got)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "framing, wire", [(b"Content-Length: 3\r\n", b"abc"), (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")]
)
def test_an_offer_of_http_2_is_declined_and_its_body_is_a_body(framing: bytes, wire: bytes, at_once) -> None:
    # what Java's HttpClient sends first; llhttp would take the body for another protocol, or for the next request
    data = (
        HEAD
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEA\r\n"
        + framing
        + b"\r\n"
        + wire
    )
    requests = feed(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", at_once=at_once)
    (request,) = requests.requests
    assert (request.body, request.refusal, request.keep_alive) == (b"abc", None, False)


def test_an_offer_without_body_is_declined_too() -> None:
    (request,) = feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").requests
    assert (request.path, request.refusal) == (b"/", None)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_of_http_2_is_told_what_is_spoken_here(at_once) -> None:
    (request,) = feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4", at_once=at_once).requests
    assert request.refusal is not None
    assert (request.refusal.status, request.refusal.code) == (400, "http2_not_supported")
    assert request.refusal.message == "HTTP/2 is not spoken here; use HTTP/1.1"


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"])
def test_a_client_of_https_is_told_what_is_spoken_here(before: bytes) -> None:
    requests = parser()
    if before:
        requests.feed(before)
    requests.feed(b"\x16\x03\x01\2\0\1\0\1\xfc\3\3")
    refusal = requests.requests[-1].refusal
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, "https_not_supported")
    assert refusal.message == "HTTPS is not spoken here; use http://"


def test_keep_alive_is_what_http_1_1_says() -> None:
    def kept(head: bytes) -> bool:
        return feed(head + b"Host: a\r\n\r\n").requests[0].keep_alive

    assert kept(b"GET / HTTP/1.1\r\n")
    assert not kept(b"GET / HTTP/1.1\r\nConnection: close\r\n")
    assert not kept(b"GET / HTTP/1.1\r\nConnection: keep-alive, close\r\n")
    assert not kept(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n")


def test_nothing_is_read_after_the_last_request_of_a_connection() -> None:
    requests = feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [request.path for request in requests.requests] == [b"/"]


def test_what_comes_after_a_head_does_not_change_it() -> None:
    (request,) = feed(CHUNKED + b"0\r\nAuthorization: Bearer x\r\n\r\n").requests
    assert b"authorization" not in request.headers
    first = feed(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\n\r\n").requests[0]
    assert (first.target, first.headers) == (b"/1", {})


def status_of(requests: RequestParser) -> int | None:
    refusal = requests.requests[-1].refusal if requests.requests else None
    return refusal.status if refusal else None


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"A: " + b"x" * 40000 + b"\r\n\r\n",
        HEAD + b"".join(b"A%d: b\r\n" % number for number in range(101)) + b"\r\n",
        b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n" * 20000,
        CHUNKED + b"3;" + b"x" * 40000,
        CHUNKED + b"0\r\nTrailer: " + b"x" * 40000,
    ],
    ids=["one header", "many headers", "target", "empty lines", "chunk extension", "trailer"],
)
def test_headers_and_what_hides_like_them_are_bounded(data: bytes) -> None:
    for size in (len(data), 1000):
        requests = parser()
        for place in range(0, len(data), size):
            requests.feed(data[place : place + size])
        assert status_of(requests) == 431
        assert requests.closed


def test_a_body_is_bounded_by_what_it_announces_and_by_what_comes() -> None:
    announced = parser(body_bytes=10)
    announced.feed(HEAD + b"Content-Length: 11\r\n\r\n")
    assert status_of(announced) == 413
    counted = parser(body_bytes=10)
    counted.feed(CHUNKED + b"6\r\nabcdef\r\n")
    assert status_of(counted) is None
    counted.feed(b"5\r\nabcde\r\n")
    assert status_of(counted) == 413
    exact = parser(body_bytes=10)
    exact.feed(HEAD + b"Content-Length: 10\r\n\r\n0123456789")
    assert exact.requests[0].body == b"0123456789"


def test_a_request_that_is_not_admitted_keeps_its_place_and_its_body_is_left() -> None:
    def admit(request: Request) -> None:
        if request.path == b"/no":
            raise ApiError(404, "no", code="no")

    requests = parser(admit)
    requests.feed(
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [(request.path, request.refusal is None) for request in requests.requests] == [
        (b"/a", True),
        (b"/no", False),
        (b"/b", True),
    ]
    assert not requests.closed
    requests.feed(b"POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(requests.requests) == 4
    assert requests.closed
    assert requests.unread


def test_an_expectation_is_met_once_and_others_are_refused() -> None:
    requests = parser()
    requests.feed(HEAD + b"Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
    assert [requests.owes_continue(), requests.owes_continue()] == [True, False]
    other = parser()
    other.feed(HEAD + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n")
    assert status_of(other) == 417


# --- the second opinion

Reading = list[tuple[bytes, bytes, bytes]]


def our_reading(data: bytes) -> Reading:
    requests = feed(data)
    return [(request.method, request.target, request.body) for request in requests.requests if request.refusal is None]


def their_reading(data: bytes) -> Reading:
    """What h11 makes of it, until it gives up."""
    read: Reading = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data.lstrip(b"\r\n"))  # empty lines before a request may be skipped (RFC 9112 2.2)
        try:
            head = connection.next_event()
            body = b""
            while isinstance(part := connection.next_event(), h11.Data):
                body += bytes(part.data)
        except h11.RemoteProtocolError:
            return read
        if not isinstance(head, h11.Request) or not isinstance(part, h11.EndOfMessage):
            return read
        read.append((head.method, head.target, body))
        if connection.their_state is h11.MUST_CLOSE:
            return read
        data = connection.trailing_data[0]
    return read


# Mostly plain, so that something is read at all; now and then what a parser might trip over.
lines = st.sampled_from(
    [b"X: y", b"X:", b"Accept: */*", b"Connection: keep-alive", b"Expect: 100-continue"]
) | st.sampled_from(
    [
        b"Host: b",
        b"X: \xff",
        b"X: \x0b",
        b" folded: x",
        b"Content-Length: 3",
        b"Content-Length : 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: upgrade\r\nUpgrade: h2c",
    ]
)
ends = st.sampled_from([b"\r\n"] * 40 + [b"\n", b"\r", b"\r\r\n"])
starts = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"POST /x HTTP/1.0", b"HEAD / HTTP/1.1", b"GET /a?b#c HTTP/1.1"]
)
framed = st.sampled_from(
    [
        (b"", b""),
        (b"Content-Length: 3", b"abc"),
        (b"Content-Length: 03", b"abc"),
        (b"content-length:\t4 ", b"abcd"),
        (b"Content-Length: 3, 3", b"abc"),
        (b"Content-Length: 2", b"abc"),
        (b"Content-Length: 4", b"abc"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"transfer-encoding:\tChunked ", b"03;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"3\r\nabcd\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"3\nabc\n0\n\n"),
        (b"Transfer-Encoding: chunked", b"-1\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"2\r\nab\r\n1 \r\nc\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"abc"),
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    framing, body = draw(framed)
    headers = [b"Host: a", *draw(st.lists(lines, max_size=2)), *([framing] if framing else [])]
    return b"".join(line + draw(ends) for line in [draw(starts), *headers]) + draw(ends) + body


traffic = st.lists(messages(), min_size=1, max_size=3).map(b"".join)
noises = st.just(b"") | st.binary(max_size=2)


@settings(max_examples=600)
@given(traffic, noises, st.integers(0, 400))
@example(HEAD + b"Content-Length: 3\r\n\r\nabc", b"", 0)
def test_whatever_we_read_h11_reads_the_same_way(data: bytes, noise: bytes, place: int) -> None:
    data = data[:place] + noise + data[place:]
    ours, theirs = our_reading(data), their_reading(data)
    assert ours == theirs[: len(ours)]


@settings(max_examples=200)
@given(traffic, st.lists(st.integers(1, 50), max_size=20))
def test_it_does_not_matter_how_the_network_cuts_it(data: bytes, sizes: list[int]) -> None:
    requests, rest = parser(), data
    for size in [*sizes, len(data)]:
        requests.feed(rest[:size])
        rest = rest[size:]
    whole = feed(data)
    assert [(request.target, request.body) for request in requests.requests] == [
        (request.target, request.body) for request in whole.requests
    ]
    assert requests.closed == whole.closed
