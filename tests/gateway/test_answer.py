import json

import pytest

from gateway.rig import completion
from selfhost.gateway.answer import Usage, judge

JSON = b"application/json"


def test_a_good_answer_is_passed_on_as_it_is_and_counted() -> None:
    body = json.dumps(completion("one two")).encode()
    verdict = judge(200, JSON, body)
    assert (verdict.response.status, verdict.response.body, verdict.failure) == (200, body, None)
    assert verdict.usage == Usage(3, 2)


def test_an_answer_that_the_engine_broke_off_is_none() -> None:
    verdict = judge(200, JSON, json.dumps(completion("one", finish_reason="abort")).encode())
    assert verdict.response.status == 503
    assert dict(verdict.response.headers) == {"retry-after": "5"}
    assert verdict.failure is not None
    assert verdict.usage is None


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b'{"choices": "abort"}', b'{"choices": ["abort"], "usage": []}', b"{}"]
)
def test_an_answer_of_a_shape_that_we_do_not_know_is_passed_on(body: bytes) -> None:
    verdict = judge(200, b"text/plain", body)
    assert (verdict.response.body, verdict.response.content_type, verdict.usage) == (body, b"text/plain", None)


def test_the_engine_s_refusal_is_the_client_s_affair_and_its_failure_is_counted() -> None:
    body = b'{"error": {"message": "max_tokens is too large", "type": "BadRequestError", "code": 400}}'
    assert judge(400, JSON, body) == (judge(400, JSON, body).response, None, None)
    assert judge(400, JSON, body).response.body == body
    broken = judge(500, JSON, b'{"error": {"message": "EngineCore encountered an issue.", "code": 500}}')
    assert (broken.response.status, broken.failure is not None) == (500, True)


@pytest.mark.parametrize(
    "status, body, seen",
    [
        (401, b'{"error": {"message": "Unauthorized"}}', 502),  # the client's key was right
        (404, b'{"detail": "Not Found"}', 404),
        (500, b"Internal Server Error", 500),
        (302, b"", 502),
        (204, b"", 502),
    ],
)
def test_what_is_no_answer_becomes_an_error_in_openai_s_shape(status: int, body: bytes, seen: int) -> None:
    response = judge(status, b"text/plain", body).response
    assert response.status == seen
    assert json.loads(response.body)["error"]["type"] in {"server_error", "invalid_request_error"}
