"""What an engine's answer says about itself: whether it is one, how it ended, what it took. Pure."""

from typing import Any, NamedTuple

import orjson

from selfhost.gateway.http_response import Response
from selfhost.gateway.openai import ApiError, unavailable


class Usage(NamedTuple):
    """Tokens as the engine counted them."""

    prompt: int
    completion: int


class Verdict(NamedTuple):
    """What the client gets for an answer that was not streamed."""

    response: Response
    usage: Usage | None = None
    failure: ApiError | None = None  # it is not the engine's answer to the request, whatever its status said


def judge(status: int, content_type: bytes, body: bytes) -> Verdict:
    """What to make of a whole answer.

    An engine that was stopped answers 200 with the text so far and `"finish_reason":"abort"` (seen with vLLM 0.32).
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = None
    if type(fields) is not dict:
        fields = {}
    as_it_is = Response(status=status, body=body, content_type=content_type)
    if status == 200:
        return _failed(engine_stopped()) if aborted(fields) else Verdict(as_it_is, usage=read_usage(fields))
    if status in {401, 403}:  # the client's own key was fine, and clients drop a key that is called wrong
        return _failed(ApiError(502, "the engine did not accept the gateway's key", code="engine_refused"))
    if 400 <= status <= 599 and type(fields.get("error")) is dict:
        return Verdict(as_it_is, failure=reported_failure(fields["error"]) if status >= 500 else None)
    message = f"the engine answered with status {status} and no explanation"
    return _failed(ApiError(status if 400 <= status <= 599 else 502, message, code="engine_error"))


def read_usage(fields: dict[str, Any]) -> Usage | None:
    """The tokens that an answer, or an event of one, says it took."""
    usage = fields.get("usage")
    if type(usage) is not dict:
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt if type(prompt) is int else 0, completion if type(completion) is int else 0)


def aborted(fields: dict[str, Any]) -> bool:
    """Whether an answer, or an event of one, says that the engine stopped in the middle of it."""
    choices = fields.get("choices")
    if type(choices) is list:
        for choice in choices:
            if type(choice) is dict and choice.get("finish_reason") == "abort":
                return True
    return False


def engine_died() -> ApiError:
    """The connection to the engine ended before the answer did."""
    return ApiError(502, "the engine ended before the answer was complete", code="engine_died")


def engine_stopped() -> ApiError:
    """The engine was told to stop (a restart, a change) before the answer was complete."""
    message = "the engine was stopped before the answer was complete"
    return unavailable(message, code="engine_stopped", retry_after_seconds=5)


def reported_failure(error: Any) -> ApiError:
    """The engine's own words for what went wrong."""
    fields = error if type(error) is dict else {}
    status, message = fields.get("code"), fields.get("message")
    return ApiError(
        status if type(status) is int and 400 <= status <= 599 else 500,
        message if type(message) is str else "the engine failed",
        code="engine_error",
    )


def _failed(error: ApiError) -> Verdict:
    return Verdict(error.response(), failure=error)
