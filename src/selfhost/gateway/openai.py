"""The OpenAI protocol as values: what a body asks for, what it may not ask for, what no looks like. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from selfhost.gateway import json_text
from selfhost.gateway.http_response import Response

# Engine-fatal or worse in some vLLM (CVE-2026-105756, -105757, -105758, -114053), or a way around the operator.
FORBIDDEN = frozenset(
    {
        "cache_salt",
        "chat_template",
        "ec_transfer_params",
        "kv_transfer_params",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "prompt_embeds",
        "prompt_logprobs",
    }
)
# Objects that vLLM spreads over the template's, or the engine's own, arguments: the same names do the same harm there.
SPREAD = ("chat_template_kwargs", "vllm_xargs")
AT_MOST = {"n": 8, "best_of": 8, "logprobs": 20, "top_logprobs": 20}

_LONGEST_ECHO = 100  # characters of a name that a client made up, in an error that only this client sees


class ApiError(Exception):
    """An answer that says no, in OpenAI's shape, so that every OpenAI client raises its own exception for it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers

    def body(self) -> bytes:
        """The error as JSON; also what a broken stream ends with."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": fields})

    def response(self) -> Response:
        """The error as a whole answer."""
        return Response(status=self.status, body=self.body(), headers=self.headers)


def bad_request(message: str, *, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """The client's mistake."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str, *, code: str, retry_after_seconds: int) -> ApiError:
    """Not now: worth another try after a while."""
    return ApiError(503, message, code=code, headers=(("retry-after", str(retry_after_seconds)),))


def model_not_found(name: str, known: Iterable[str]) -> ApiError:
    """Never somebody else's answer: the names that would have worked."""
    served = ", ".join(known) or "none"
    message = f"model '{name[:_LONGEST_ECHO]}' is not served here; known models: {served}"
    return ApiError(404, message, param="model", code="model_not_found")


class Call(NamedTuple):
    """A body that may go to an engine."""

    raw: bytes
    fields: dict[str, Any]
    model: str
    canonical: bool  # `raw` is what orjson writes for `fields`, so writing it again changes nothing but what we change


class EngineBody(NamedTuple):
    """What the engine gets instead of the client's body."""

    body: bytes
    usage_added: bool  # the stream will end with a usage event that the client did not ask for


def read_call(raw: bytes) -> Call:
    """Parse the whole body and refuse what must not reach an engine; raises `ApiError`."""
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request("the body is not valid JSON", code="invalid_json") from error
    if type(fields) is not dict:
        raise bad_request("the body must be a JSON object", code="invalid_json")
    # Text that equals what orjson writes cannot hold a key twice, since a dict does not: that settles nearly every
    # client's body in half a microsecond. The rest (spaces, escapes, 1e3) is taken apart member by member.
    try:
        canonical = orjson.dumps(fields) == raw
    except orjson.JSONEncodeError as error:  # it reads 1024 levels and writes 254
        raise bad_request("the body is nested too deeply", code="invalid_json") from error
    if not canonical and (name := json_text.duplicate(raw)) is not None:
        name = name[:_LONGEST_ECHO]
        raise bad_request(f"'{name}' is given twice", param=name, code="duplicate_parameter")
    model = fields.get("model")
    if type(model) is not str:
        raise bad_request("'model' must be given, as a string", param="model")
    _refuse_forbidden(fields, inside="")
    for container in SPREAD:
        if type(inner := fields.get(container)) is dict:
            _refuse_forbidden(inner, inside=f"{container}.")
    for name, most in AT_MOST.items():
        if name in fields:
            _check_count(name, fields[name], most)
    return Call(raw, fields, model, canonical)


def engine_body(call: Call, model: str) -> EngineBody:
    """The body for the engine: its own name for the model, and usage for our books; everything else is untouched."""
    changes: dict[str, Any] = {}
    if call.model != model:
        changes["model"] = model
    options = _usage_options(call.fields) if call.fields.get("stream") is True else None
    if options is not None:
        changes["stream_options"] = options
    if not changes:
        return EngineBody(call.raw, usage_added=False)
    body = orjson.dumps({**call.fields, **changes}) if call.canonical else json_text.replace(call.raw, changes)
    return EngineBody(body, usage_added=options is not None)


def _refuse_forbidden(fields: Mapping[str, Any], *, inside: str) -> None:
    if FORBIDDEN.isdisjoint(fields):
        return
    for name in sorted(FORBIDDEN & fields.keys()):
        if fields[name] is not None:  # null is what some clients write for "not given"
            path = f"{inside}{name}"
            raise bad_request(f"'{path}' is not accepted by this gateway", param=path, code="forbidden_parameter")


def _check_count(name: str, value: Any, most: int) -> None:
    """Strict about the type: vLLM reads "9" and 9.0 as 9, so a looser check would let them by."""
    if value is None or (name == "logprobs" and type(value) is bool):
        return
    if type(value) is not int or not 0 <= value <= most:
        raise bad_request(f"'{name}' must be a whole number from 0 to {most}", param=name)


def _usage_options(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Stream options that make the engine report usage; None when the client asked for it, or asked for nonsense."""
    given = fields.get("stream_options")
    if given is None:
        return {"include_usage": True}
    if type(given) is not dict or given.get("include_usage", False) not in (None, False):
        return None
    # without include_usage this one has no effect; with ours it would put usage into every event of the client
    return {name: value for name, value in given.items() if name != "continuous_usage_stats"} | {"include_usage": True}
