import io

import pytest

from gateway.rig import raw_request
from selfhost.gateway.access_log import AccessLog
from selfhost.gateway.http_request import Request, RequestParser
from selfhost.gateway.limits import Limits


def lines(*answers: tuple[str, int]) -> list[str]:
    """What the log says about answers with these targets and statuses."""
    stream = io.StringIO()
    log = AccessLog(stream)
    for target, status in answers:
        request = Request()
        request.method = b"GET"
        request.route, _, query = target.partition("?")
        request.query = query.encode()
        log.finished(request, status)
    log.flush()
    return [" ".join(line.split(" GET ")[1].split()[:2]) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("probe", ["/livez", "/readyz", "/startupz", "/metrics"])
def test_probes_that_go_well_are_not_logged(probe: str) -> None:
    assert lines(*[(probe, 200)] * 1000) == []


def test_of_a_probe_a_changed_answer_is_logged() -> None:
    answers = [200, 503, 503, 200, 200, 503]
    assert lines(*[("/readyz", status) for status in answers]) == ["/readyz 503", "/readyz 200", "/readyz 503"]


def test_probes_of_different_models_do_not_change_each_other() -> None:
    assert lines(*[("/readyz?model=a", 200), ("/readyz?model=b", 503)] * 10) == ["/readyz 503"]


def test_what_a_probe_is_refused_is_logged_every_time() -> None:
    assert lines(*[("/metrics", 401)] * 3, ("/readyz?model=x", 404)) == ["/metrics 401"] * 3 + ["/readyz 404"]


def test_calls_are_logged_every_time() -> None:
    assert lines(*[("/v1/models", 200)] * 2, ("/v1/chat/completions", 503)) == [
        "/v1/models 200",
        "/v1/models 200",
        "/v1/chat/completions 503",
    ]


def test_failing_probes_are_not_remembered_without_limit() -> None:
    log = AccessLog(io.StringIO())
    for number in range(10_000):
        request = Request()
        request.route, request.query = "/readyz", b"model=chat&%d" % number
        log.finished(request, 503)
    assert len(log._failing) <= 100


@pytest.mark.parametrize(
    "data, said",
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused=http2_not_supported"),
        (b"\x16\x03\x01\2\0\1\0\1\xfc\3\3", "refused=https_not_supported"),
        (raw_request("GET", "/sk-secret?sk-secret")[:-2] + b"x y: z\r\n\r\n", "refused=bad_http"),
    ],
)
def test_what_is_not_understood_is_logged_with_the_reason(data: bytes, said: str) -> None:
    stream = io.StringIO()
    log = AccessLog(stream)
    parser = RequestParser(Limits(), lambda _: None)
    parser.feed(data)
    log.finished(parser.requests[0], 400)
    log.flush()
    line = stream.getvalue()
    assert line.endswith(f"s {said}\n")
    assert " - 400 " in line
    assert "secret" not in line
